/** Where this page's numbers come from: the page itself, a folder beside it, or the server that sent it. */
import type { DataSource } from "../types.ts";
import { LiveSource } from "./live.ts";
import { LocalSource } from "./local.ts";
import { fromFolder, fromPage } from "./pack.ts";

export async function openSource(): Promise<DataSource> {
  const pack = document.getElementById("pack");
  const beside = pack?.dataset["src"] ?? new URLSearchParams(location.search).get("pack");
  if (beside) return new LocalSource(...(await fromFolder(ours(beside))));
  if (pack) return new LocalSource(...(await fromPage(pack.textContent, text("data"))));
  withoutToken();
  return new LiveSource();
}

/** An address of our own: a link must not make this page show what somebody else has put elsewhere. */
function ours(path: string): URL {
  const address = new URL(path, document.baseURI);
  if (address.origin !== new URL(document.baseURI).origin) throw new Error("A recording lies beside its page.");
  return address;
}

const text = (id: string): string => document.getElementById(id)?.textContent ?? "";

/** The cookie has taken its place; an address that is copied must not carry the key. */
function withoutToken(): void {
  const address = new URL(location.href);
  if (!address.searchParams.has("token")) return;
  address.searchParams.delete("token");
  history.replaceState(history.state, "", address);
}
