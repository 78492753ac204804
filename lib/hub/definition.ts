import { MAX_CHANNEL_LENGTH } from '../protocol/frames.js';
import type { SlowConsumerPolicy } from './outbox.js';
import type { Retention } from './ports/broker.js';
import type { Publication } from './publication.js';

/** How the channels of one pattern behave. */
export interface ChannelOptions {
  /**
   * What a peer that was away can recover: the newest `size` publications, for `ttlMs` after the channel's last one.
   * `false` keeps nothing: who was away is told that publications were lost.
   * @defaultValue `{ size: 100, ttlMs: 300_000 }`
   */
  history?: { size: number; ttlMs: number } | false;
  /** Whether members are counted and told. @defaultValue false */
  presence?: boolean;
  /**
   * What happens when a peer reads too slowly and its outbox is full: `disconnect` closes it with `slow_consumer` (it
   * comes back and recovers), `dropOldest` drops this channel's oldest waiting publications, `conflateBy` keeps of the
   * waiting ones the newest of each key. What is dropped is told as `skipped`.
   * @defaultValue 'disconnect'
   */
  slowConsumer?: 'disconnect' | 'dropOldest' | { conflateBy: (publication: Publication) => string };
  /** Whether peers may subscribe where no `@OnSubscribe` says so. @defaultValue true */
  subscribe?: boolean;
  /** Whether peers may publish events that no `@OnPublish` takes. @defaultValue false */
  publish?: boolean;
}

/** A pattern with its options filled in. */
export interface ChannelDefinition {
  readonly pattern: string;
  readonly retention: Retention;
  readonly presence: boolean;
  readonly policy: SlowConsumerPolicy;
  readonly conflateBy?: (publication: Publication) => string;
  readonly subscribe: boolean;
  readonly publish: boolean;
}

/** A channel's name, matched: what was declared for it, and the pattern's parameters. */
export interface ChannelMatch {
  readonly channel: string;
  readonly definition: ChannelDefinition;
  readonly params: Readonly<Record<string, string>>;
}

const SEGMENT = /^(?::[A-Za-z_][A-Za-z0-9_]*|[^.:,\p{Cc}]+)$/u;
const NAME = new RegExp(`^(?!\\$)[^,\\p{Cc}]{1,${MAX_CHANNEL_LENGTH}}$`, 'u');
const META_TTL_MS = 86_400_000;

/** Tells whether a text may be the name of a channel: 1–200 characters, no comma, no control character, not `$` first. */
export function isChannelName(name: unknown): name is string {
  return typeof name === 'string' && name.length <= MAX_CHANNEL_LENGTH && NAME.test(name);
}

/** Why a text is no pattern, or `undefined` if it is one. */
export function patternMistake(pattern: string): string | undefined {
  if (typeof pattern !== 'string' || pattern === '' || pattern.length > MAX_CHANNEL_LENGTH) {
    return `a pattern has 1 to ${MAX_CHANNEL_LENGTH} characters`;
  }
  if (pattern.startsWith('$')) return 'names that begin with "$" are reserved';
  const segments = pattern.split('.');
  const wrong = segments.find((segment) => !SEGMENT.test(segment));
  if (wrong !== undefined)
    return `a segment is text without ".", "," and ":", or a parameter such as ":room", not "${wrong}"`;
  const params = segments.filter((segment) => segment.startsWith(':'));
  return new Set(params).size === params.length ? undefined : 'a parameter is named twice';
}

/** Fills in the options of a pattern, which were validated. */
export function resolveDefinition(pattern: string, options: ChannelOptions = {}): ChannelDefinition {
  const { history = { size: 100, ttlMs: 300_000 }, slowConsumer = 'disconnect' } = options;
  const { size, ttlMs } = history === false ? { size: 0, ttlMs: 0 } : history;
  return {
    pattern,
    retention: { size, ttlMs, metaTtlMs: Math.max(META_TTL_MS, 2 * ttlMs) },
    presence: options.presence ?? false,
    policy: typeof slowConsumer === 'string' ? slowConsumer : 'conflate',
    ...(typeof slowConsumer === 'string' ? {} : { conflateBy: slowConsumer.conflateBy }),
    subscribe: options.subscribe ?? true,
    publish: options.publish ?? false,
  };
}

interface Declared {
  readonly definition: ChannelDefinition;
  readonly segments: readonly string[];
  readonly literals: number;
}

/** The declared channels. Of two patterns that match a channel the one with more literal segments wins. */
export class Declarations {
  readonly #bySize = new Map<number, Declared[]>();

  /**
   * Adds a pattern, in place of what was declared for the same pattern. Returns the other pattern that makes it
   * ambiguous, in which case nothing is added.
   */
  declare(definition: ChannelDefinition): string | undefined {
    const segments = definition.pattern.split('.');
    const literals = segments.filter((segment) => !segment.startsWith(':')).length;
    const known = this.#bySize.get(segments.length) ?? [];
    const list = known.filter((other) => other.definition.pattern !== definition.pattern);
    const tie = list.find((other) => other.literals === literals && overlap(other.segments, segments));
    if (tie !== undefined) return tie.definition.pattern;
    list.push({ definition, segments, literals });
    list.sort((a, b) => b.literals - a.literals);
    this.#bySize.set(segments.length, list);
    return undefined;
  }

  /** All that was declared. */
  get all(): ChannelDefinition[] {
    return [...this.#bySize.values()].flatMap((list) => list.map(({ definition }) => definition));
  }

  /** Finds what was declared for a channel. */
  match(channel: string): ChannelMatch | undefined {
    const parts = channel.split('.');
    for (const { definition, segments } of this.#bySize.get(parts.length) ?? []) {
      const params = matchSegments(segments, parts);
      if (params !== undefined) return { channel, definition, params };
    }
    return undefined;
  }
}

function overlap(a: readonly string[], b: readonly string[]): boolean {
  return a.every((segment, i) => segment.startsWith(':') || b[i]!.startsWith(':') || segment === b[i]);
}

/** The parameters of a channel's name by a pattern of as many segments; `undefined` where it does not match. */
export function matchSegments(
  segments: readonly string[],
  parts: readonly string[],
): Record<string, string> | undefined {
  const params: Record<string, string> = {};
  for (let i = 0; i < segments.length; i++) {
    const segment = segments[i]!;
    const part = parts[i]!;
    if (segment.startsWith(':')) {
      if (part === '') return undefined;
      params[segment.slice(1)] = part;
    } else if (segment !== part) {
      return undefined;
    }
  }
  return params;
}
