import type { Hub } from '../hub/hub.js';
import { historyQuery } from '../hub/history.js';
import type { ConnectionInfo } from '../hub/ports/broker.js';
import { RealtimeException } from '../protocol/errors.js';
import type { ChannelDetails, ConnectionDetails, ConnectionLine, ConnectionPage, PublicationLine } from './snapshot.js';

/** How many connections are on a page. */
export const PAGE_SIZE = 50;
/** How many publications of a history are shown, and how much of each, in characters. */
const HISTORY_ITEMS = 50;
const DATA_LENGTH = 4_096;
/** How many members of a channel are named. */
const NAMED_MEMBERS = 200;
/** For how long the list of all connections is given to all who search, ms. */
const LIST_MS = 2_000;

/** What is searched for among the connections. */
export interface ConnectionSearch {
  /** A part of the user's id, the address, the connection's id or the client instance. */
  readonly text: string;
  readonly transport: string;
  readonly node: string;
  /** From 1. */
  readonly page: number;
}

/** Answers what is asked about connections and channels, over all nodes. */
export class Queries {
  #list: Promise<readonly ConnectionInfo[]> | undefined;

  constructor(private readonly hub: Hub) {}

  /** One page of the connections that match, the newest first. Rejects with `broker_unavailable`. */
  async connections({ text, transport, node, page }: ConnectionSearch): Promise<ConnectionPage> {
    const all = await this.#all();
    const needle = text.toLowerCase();
    const found = all.filter(
      (info) =>
        (transport === '' || info.transport === transport) &&
        (node === '' || info.node === node) &&
        (needle === '' || wordsOf(info).some((word) => word.toLowerCase().includes(needle))),
    );
    const pages = Math.max(1, Math.ceil(found.length / PAGE_SIZE));
    const at = Math.min(Math.max(1, page), pages);
    const items = found.slice((at - 1) * PAGE_SIZE, at * PAGE_SIZE).map(lineOf);
    return { total: all.length, matching: found.length, page: at, pages, items };
  }

  /** One connection. Rejects with `gone` where there is none. */
  async connection(id: string): Promise<ConnectionDetails> {
    const info = (await this.#all()).find((connection) => connection.id === id);
    if (info === undefined) throw new RealtimeException('gone', 'There is no such connection');
    const { endpoint, params, channels, client } = info;
    return { ...lineOf(info), endpoint, params, channels, ...(client === undefined ? {} : { client }) };
  }

  /** A channel; with `history`, what its history holds. Rejects with `unknown_channel` or `invalid`. */
  async channel(name: string, history: boolean): Promise<ChannelDetails> {
    const match = this.hub.match(name);
    const { pattern, retention, presence } = match.definition;
    const [{ position, items }, all, members] = await Promise.all([
      this.hub.history(match, historyQuery(undefined, history ? HISTORY_ITEMS : 1, true)),
      this.#all(),
      presence ? this.hub.presence.members(name) : undefined,
    ]);
    const subscribers = all.filter(({ channels }) => channels.includes(name));
    return {
      channel: name,
      pattern,
      position,
      history: { size: retention.size, ttlMs: retention.ttlMs },
      subscribers: {
        total: subscribers.length,
        byNode: countBy(subscribers, ({ node }) => node),
        byTransport: countBy(subscribers, ({ transport }) => transport),
      },
      ...(members === undefined
        ? {}
        : { members: { count: members.count, ids: members.users.slice(0, NAMED_MEMBERS).map(({ id }) => id) } }),
      ...(history ? { publications: items.map(publicationLine) } : {}),
    };
  }

  /** The connections of all nodes. One look at the registry at a time, and what it found for as long as {@link LIST_MS}. */
  #all(): Promise<readonly ConnectionInfo[]> {
    if (this.#list !== undefined) return this.#list;
    const forget = (): void => {
      this.#list = undefined; // it may be large
    };
    this.#list = this.hub.registered({}).then((found) => found.sort((a, b) => b.openedAt - a.openedAt));
    this.#list.then(() => this.hub.settings.clock.after(LIST_MS, forget), forget);
    return this.#list;
  }
}

/** A publication as it is shown. */
export function publicationLine({
  offset,
  event,
  data,
}: {
  readonly offset: number;
  readonly event: string;
  readonly data: string;
}): PublicationLine {
  return { offset, event, data: data.slice(0, DATA_LENGTH), length: data.length };
}

function wordsOf({ userId, ip, id, client }: ConnectionInfo): string[] {
  return [userId, ip, id, client].filter((word) => word !== undefined);
}

function lineOf({ id, node, transport, userId, ip, openedAt, channels }: ConnectionInfo): ConnectionLine {
  const line = { id, node, transport, ip, openedAt, channels: channels.length };
  return userId === undefined ? line : { ...line, userId };
}

function countBy<T>(items: readonly T[], keyOf: (item: T) => string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const item of items) counts[keyOf(item)] = (counts[keyOf(item)] ?? 0) + 1;
  return counts;
}
