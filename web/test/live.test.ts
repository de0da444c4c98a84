/** The server's news: a page whose connection broke learns what it missed. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { LiveSource } from "../src/data/live.ts";
import type { TrainingNews } from "../src/types.ts";

class Connection extends EventTarget {
  static last: Connection;
  closed = false;

  constructor() {
    super();
    Connection.last = this;
  }

  close(): void {
    this.closed = true;
  }
}

test("a training is read anew whenever the connection opens, and left alone when it has ended", async () => {
  let training = { ended: false, figures: {}, losses: [[1, 2.5]], pictures: [1], steps: 9 };
  const runs = [{ id: 0 }];
  Object.assign(globalThis, {
    EventSource: Connection,
    fetch: async (path: string) => Response.json(path.endsWith("training") ? training : { runs }),
  });
  const heard: TrainingNews[] = [];
  new LiveSource().training(news => heard.push(news));
  const open = async (): Promise<void> => {
    Connection.last.dispatchEvent(new Event("open"));
    await new Promise(resolve => setTimeout(resolve, 10));
  };

  await open();
  assert.deepEqual(heard.pop(), { kind: "so far", training, runs });
  assert.equal(Connection.last.closed, false);

  training = { ...training, ended: true, losses: [[1, 2.5], [2, 2.25], [9, 1.5]], pictures: [1, 9] };
  await open();
  assert.deepEqual(heard.pop(), { kind: "so far", training, runs });
  assert.equal(Connection.last.closed, true);
});
