/** What is asked for twice is made once; what failed is tried again, and of too many the longest unused is forgotten. */
export class Once<T> {
  readonly #found = new Map<string, Promise<T>>();

  constructor(private readonly most = Infinity) {}

  has(key: string): boolean {
    return this.#found.has(key);
  }

  get(key: string, make: () => Promise<T>): Promise<T> {
    const known = this.#found.get(key);
    const promise = known ?? make();
    this.#found.delete(key);
    this.#found.set(key, promise); // now the newest
    const [oldest] = this.#found.keys();
    if (this.#found.size > this.most && oldest !== undefined) this.#found.delete(oldest);
    if (known === undefined) {
      promise.catch(() => {
        if (this.#found.get(key) === promise) this.#found.delete(key);
      });
    }
    return promise;
  }
}
