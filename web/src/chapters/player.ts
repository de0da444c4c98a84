/**
 * The clock of a walkthrough: which chapter, which step, how far in it, and whether it goes on by itself.
 *
 * Time within a step runs from 0 to 1 and stays at 1. While playing, the text is left standing for as long as it takes
 * to read, and then the next step follows, to the end of the last chapter. Whoever wants less motion gets every step as
 * it ends. The signals are the page's own; the page calls `tick` before each frame for as long as it returns true.
 */

import { batch, type Signal } from "@preact/signals";
import type { Chapter, ChapterStep } from "../types.ts";

export interface Clock {
  chapter: Signal<string | null>; // its id
  step: Signal<number>;
  time: Signal<number>;
  playing: Signal<boolean>;
}

const SECONDS = 3; // of a step that does not say
const READING: Record<"en" | "zh", number> = { en: 16, zh: 7 }; // characters a second

export class Player {
  speed = 1;
  #moving = false; // the step's animation runs, whether or not it goes on afterwards
  #rested = 0; // seconds since the animation ended

  constructor(
    private readonly clock: Clock,
    private readonly chapters: () => Chapter[], // as `applicable` gives them
    private readonly still: () => boolean,
    private readonly language: () => "en" | "zh",
  ) {}

  get chapter(): Chapter | null { return this.chapters().find(({ id }) => id === this.clock.chapter.peek()) ?? null; }
  get step(): ChapterStep | null { return this.chapter?.steps[this.clock.step.peek()] ?? null; }

  /** Go to a step and let it happen; `at` shows it as it is at that time instead. */
  goTo(chapter: string, step = 0, at?: number): void {
    const steps = this.chapters().find(({ id }) => id === chapter)?.steps.length ?? 0;
    if (steps === 0) return;
    batch(() => {
      this.clock.chapter.value = chapter;
      this.clock.step.value = Math.min(Math.max(step, 0), steps - 1);
      this.scrub(at ?? (this.still() ? 1 : 0));
    });
    this.#moving = at === undefined && !this.still();
  }

  /** To the next step, or the next chapter's first; false at the end of the last. */
  next(): boolean { return this.#by(1); }

  /** To the step before, or the last one's of the chapter before. */
  back(): boolean { return this.#by(-1); }

  /** Show the step as it is at a time, and stay there. */
  scrub(time: number): void {
    this.#moving = false;
    this.#rested = 0;
    this.clock.time.value = Math.min(1, Math.max(0, time));
  }

  play(): void {
    const first = this.chapters()[0];
    if (this.chapter === null && first) this.goTo(first.id);
    this.clock.playing.value = true;
    this.#moving = this.clock.time.peek() < 1;
    this.#rested = 0;
  }

  pause(): void {
    this.clock.playing.value = false;
    this.#moving = false;
  }

  toggle(): void { if (this.clock.playing.peek()) this.pause(); else this.play(); }

  /** Some seconds have passed; a frame's time may lie before that of the start. True while another frame is wanted. */
  tick(seconds: number): boolean {
    const step = this.step;
    if (step === null) return false;
    const passed = Math.max(0, seconds) * this.speed;
    if (this.#moving) {
      const time = this.clock.time.peek() + passed / (step.seconds ?? SECONDS);
      this.clock.time.value = Math.min(1, time);
      this.#moving = time < 1;
    } else if (this.clock.playing.peek()) {
      this.#rested += passed;
      if (this.#rested >= this.#reading(step) && !this.next()) this.pause();
    }
    return this.#moving || this.clock.playing.peek();
  }

  #by(steps: number): boolean {
    const chapters = this.chapters();
    const at = chapters.findIndex(({ id }) => id === this.clock.chapter.peek());
    const here = chapters[at];
    const to = this.clock.step.peek() + steps;
    if (here && to >= 0 && to < here.steps.length) {
      this.goTo(here.id, to);
      return true;
    }
    const other = chapters[at + steps];
    if (other) this.goTo(other.id, steps > 0 ? 0 : other.steps.length - 1);
    return other !== undefined;
  }

  /** Seconds to read a text, less those in which its animation ran. */
  #reading(step: ChapterStep): number {
    const language = this.language();
    const text = step.text[language].replace(/\{[^{}]*(\{[^{}]*\})?[^{}]*\}/g, "four");
    return Math.max(1, text.length / READING[language] - (this.still() ? 0 : step.seconds ?? SECONDS));
  }
}
