/** What is asked for twice is made once; what failed is tried again. */
export class Once<T> {
  readonly #found = new Map<string, Promise<T>>();

  has(key: string): boolean {
    return this.#found.has(key);
  }

  get(key: string, make: () => Promise<T>): Promise<T> {
    const known = this.#found.get(key);
    if (known !== undefined) return known;
    const promise = make();
    this.#found.set(key, promise);
    promise.catch(() => this.#found.delete(key));
    return promise;
  }
}
