/** What a cache of keys and values holds of the text after each token, by its policy: slots, sinks, what has left. */

import { signal, useSignal, useSignalEffect } from "@preact/signals";
import { session, t, tokens } from "../state.ts";
import type { Token } from "../types.ts";
import { full, recent, slotsAfter, withSinks, type Policy } from "./cache-slots.ts";
import { tokenText } from "./format.ts";
import { IconButton } from "./icons.tsx";

const MOST_SLOTS = 64; // that are drawn of a window
const chosen = signal<{ size: number | null; first: number | null }>({ size: null, first: null }); // null: by the text

export const CachePolicies = () => {
  const text = tokens.value;
  const read = useSignal<number | null>(null); // null: all of it, however long it becomes
  useSignalEffect(() => {
    if (tokens.value.length > 0) read.value = null; // another text, or one token more
  });
  if (text.length === 0) return null;
  const context = contextLength(text.length);
  const most = Math.min(context, MOST_SLOTS);
  const size = within(chosen.value.size ?? Math.ceil(text.length / 2), 2, most);
  const first = within(chosen.value.first ?? Math.min(4, Math.floor(size / 3)), 1, size - 1);
  const n = within(read.value ?? text.length, 1, text.length);
  const policies = [full(context), ...(most < 2 ? [] : [recent(size), withSinks(first, size - first)])];
  return (
    <div class="caches">
      <div class="sampling">
        <label class="wide">
          <span>
            {t("tokens_in")} <output>{`${n} / ${text.length}`}</output>
          </span>
          <input
            type="range"
            min={1}
            max={text.length}
            value={n}
            onInput={(event) => (read.value = Number(event.currentTarget.value))}
          />
        </label>
        <IconButton icon="left" label={t("cache_back")} disabled={n === 1} onClick={() => (read.value = n - 1)} />
        <IconButton
          icon="right"
          label={t("cache_on")}
          disabled={n === text.length}
          onClick={() => (read.value = n + 1)}
        />
        <Size name="slots" value={size} least={2} most={most} set={(slots) => set({ size: slots })} />
        <Size name="sinks" value={first} least={1} most={size - 1} set={(sinks) => set({ first: sinks })} />
      </div>
      {policies.map((policy) => (
        <Cache key={policy.endless ? policy.sinks > 0 : "full"} policy={policy} text={text} n={n} />
      ))}
    </div>
  );
};

const within = (value: number, least: number, most: number): number => Math.max(least, Math.min(value, most));

const set = (part: Partial<{ size: number; first: number }>): void => {
  chosen.value = { ...chosen.peek(), ...part };
};

/** How many positions the model has, as its configuration says. */
const contextLength = (least: number): number => {
  const length = session.value?.model.config.context_length;
  return typeof length === "number" ? Math.max(length, least) : least;
};

const Size = ({ name, value, least, most, set }: {
  name: "slots" | "sinks";
  value: number;
  least: number;
  most: number;
  set: (value: number) => void;
}) => (
  <label>
    <span>{t(name)}</span>
    <input
      type="number"
      min={least}
      max={most}
      step={1}
      value={value}
      onChange={(event) => set(within(Math.round(Number(event.currentTarget.value)) || least, least, most))}
    />
  </label>
);

const Cache = ({ policy, text, n }: { policy: Policy; text: Token[]; n: number }) => {
  const { positions, forgotten, newest } = slotsAfter(policy, n);
  const last = n > policy.capacity ? forgotten.at(-1) : undefined;
  return (
    <figure class="cache" data-policy={policy.name}>
      <figcaption>
        <code>{policy.name}</code> <span class="quiet">{t(why(policy))}</span>
      </figcaption>
      <ol class="slots" aria-label={t("slots_of", { policy: policy.name })}>
        {positions.map((position, slot) => (
          <Slot
            key={slot}
            token={text[position]}
            position={position}
            kind={position < 0 ? "empty" : slot < policy.sinks ? "sink" : "held"}
            newest={slot === newest}
          />
        ))}
      </ol>
      <p>{told(policy, text, n, last)}</p>
      {forgotten.length > 0 && (
        <ol class="slots forgotten" aria-label={t("forgotten_by", { policy: policy.name })}>
          {forgotten.map((position) => (
            <Slot key={position} token={text[position]} position={position} kind="left" newest={position === last} />
          ))}
        </ol>
      )}
    </figure>
  );
};

const why = ({ endless, sinks }: Policy) => (!endless ? "keeps_all" : sinks > 0 ? "keeps_sinks" : "keeps_latest");

/** A cell of the row: the token whose key and value are there, over its position in the text. */
const Slot = ({ token, position, kind, newest }: {
  token: Token | undefined;
  position: number;
  kind: "sink" | "held" | "empty" | "left";
  newest: boolean;
}) => (
  <li class={newest ? `${kind} newest` : kind} data-position={position}>
    <span>{token ? tokenText(token) : "·"}</span>
    <small>{token ? position : t("empty_slot")}</small>
  </li>
);

const told = (policy: Policy, text: Token[], n: number, left: number | undefined): string => {
  const kept = Math.min(n, policy.capacity);
  const leaving = left === undefined ? undefined : text[left];
  const counts = t("slots_told", { kept, of: policy.capacity, gone: n - kept });
  return leaving ? `${counts} ${t("left_now", { token: tokenText(leaving), position: left ?? 0 })}` : counts;
};
