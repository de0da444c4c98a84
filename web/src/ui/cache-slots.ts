/** Which tokens a cache of keys and values keeps, and in which slots: the twin of the policies in nn/kv_cache.py. */

export interface Policy {
  name: string;
  capacity: number;
  sinks: number; // so many first tokens keep their slots; the later ones go round in the others
  endless: boolean; // whether a token leaves when all slots are filled
}

export const full = (capacity: number): Policy => ({ name: "full", capacity, sinks: 0, endless: false });
export const recent = (size: number): Policy => ({ name: `window:${size}`, capacity: size, sinks: 0, endless: true });
export const withSinks = (first: number, latest: number): Policy => ({
  name: `sinks:${first}+${latest}`,
  capacity: first + latest,
  sinks: first,
  endless: true,
});

/** The slot of the token at a position. */
export const slotOf = ({ capacity, sinks }: Policy, position: number): number =>
  position < sinks ? position : sinks + ((position - sinks) % (capacity - sinks));

export interface Slots {
  positions: number[]; // of the token in each slot; -1 where it is empty
  forgotten: number[]; // the positions of those that have left
  newest: number; // the slot of the latest token
}

/** What the cache holds after so many tokens; of one that keeps everything, only the slots in use are listed. */
export const slotsAfter = (policy: Policy, length: number): Slots => {
  const positions: number[] = Array(policy.endless ? policy.capacity : length).fill(-1);
  const forgotten: number[] = [];
  for (let position = 0; position < length; position++) {
    const slot = slotOf(policy, position);
    const leaving = positions[slot] ?? -1;
    if (leaving >= 0) forgotten.push(leaving);
    positions[slot] = position;
  }
  return { positions, forgotten, newest: slotOf(policy, length - 1) };
};
