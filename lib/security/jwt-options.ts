import type { JsonWebKey, KeyObject } from 'node:crypto';
import { HMAC_ALGORITHMS, PUBLIC_KEY_ALGORITHMS, readPublicKey, readSecret, type JwtAlgorithm } from './jwt-keys.js';
import { findPlaceMistakes, type OptionMistake } from './options.js';

/** The claims of a token that was verified. */
export type JwtClaims = Readonly<Record<string, unknown>>;

/** What is used of the `JwtService` of `@nestjs/jwt`. */
export interface JwtVerifier {
  verifyAsync(token: string, options?: object): Promise<object>;
}

/** Options of {@link jwtAuth}: exactly one of `secret`, `publicKey`, `jwksUri`, `service` and `verify` is needed. */
export interface JwtAuthOptions {
  /**
   * The secret that tokens are signed with (HS256, HS384, HS512): text, whose UTF-8 counts, bytes, or a KeyObject. One of
   * fewer than 32 bytes is refused; HS384 needs 48, HS512 64.
   */
  secret?: string | Uint8Array | KeyObject;
  /** The public key (RS, PS, ES, EdDSA) of whoever signs the tokens: PEM, a certificate in PEM, a JWK, or a KeyObject. */
  publicKey?: string | JsonWebKey | KeyObject;
  /**
   * Where the public keys are, as a JSON Web Key Set (RFC 7517). They are fetched at the first token, kept for
   * `jwks.cacheMs`, and fetched anew for a token that names another key.
   */
  jwksUri?: string | URL;
  /** How the keys at `jwksUri` are fetched. */
  jwks?: {
    /** How long keys are used without being fetched anew: so long a key that was withdrawn still counts. @defaultValue 600_000 */
    cacheMs?: number;
    /** How long after a fetch a token with an unknown key is refused without another one, ms. @defaultValue 30_000 */
    cooldownMs?: number;
    /** How long a fetch may take, ms: past it the peer is answered `internal` and comes back. @defaultValue 5_000 */
    timeoutMs?: number;
  };
  /** The `JwtService` of `@nestjs/jwt`, with the key and the options that its module was given. */
  service?: JwtVerifier;
  /**
   * Verifies a token by any other means: gives its claims, or throws to refuse it. A `RealtimeException`, an
   * `UnauthorizedException` and what `jose` and `jsonwebtoken` throw refuse the token; anything else is a failure.
   */
  verify?: (token: string) => object | null | undefined | Promise<object | null | undefined>;
  /**
   * The algorithms that a token may be signed with: no others than the key is for. `none` is never among them.
   * @defaultValue those that the key is for; with `service`, what that was told
   */
  algorithms?: readonly JwtAlgorithm[];
  /** What the claim `iss` has to be: one of these. @defaultValue it is not looked at */
  issuer?: string | readonly string[];
  /** What the claim `aud` has to name: one of these. @defaultValue it is not looked at */
  audience?: string | readonly string[];
  /** By how much the clocks of issuer and node may differ, for `exp` and `nbf`, in milliseconds. @defaultValue 0 */
  clockToleranceMs?: number;
  /** The claim that is the id of the user: text, or a number. @defaultValue 'sub' */
  idClaim?: string;
  /**
   * The claim that lists the channels the user may use, by their names or by patterns such as `chat.:room`. A token without
   * the claim is not limited; what is no list, or no pattern, grants nothing. @defaultValue 'channels'
   */
  channelsClaim?: string;
  /** The name of a cookie that may hold the token; then `origins` has to name what pages may connect. */
  cookie?: string;
  /** The name of a query parameter that may hold the token: for an EventSource, which can send no header. */
  query?: string;
  /** Whether a WebSocket may be accepted first and send its token in `$auth` or `$resume`. @defaultValue true */
  firstFrame?: boolean;
}

/** By what tokens are verified. */
export type JwtSource =
  | { readonly kind: 'secret'; readonly secret: Uint8Array }
  | { readonly kind: 'publicKey'; readonly key: KeyObject }
  | {
      readonly kind: 'jwksUri';
      readonly url: URL;
      readonly cacheMs: number;
      readonly cooldownMs: number;
      readonly timeoutMs: number;
    }
  | { readonly kind: 'service'; readonly service: JwtVerifier }
  | { readonly kind: 'verify'; readonly verify: NonNullable<JwtAuthOptions['verify']> };

/** The options, checked, with their defaults. */
export interface JwtSettings {
  readonly source: JwtSource;
  /** Absent: what a `service` was told counts. */
  readonly algorithms: readonly JwtAlgorithm[] | undefined;
  readonly issuer: readonly string[] | undefined;
  readonly audience: readonly string[] | undefined;
  readonly clockToleranceMs: number;
  readonly idClaim: string;
  readonly channelsClaim: string;
}

const KINDS = ['secret', 'publicKey', 'jwksUri', 'service', 'verify'] as const;
const OTHERS = ['jwks', 'algorithms', 'issuer', 'audience', 'clockToleranceMs', 'idClaim', 'channelsClaim'] as const;
const PLACES = ['cookie', 'query', 'firstFrame'] as const;
const JWKS = { cacheMs: 600_000, cooldownMs: 30_000, timeoutMs: 5_000 } as const;
const MAX_TOLERANCE_MS = 3_600_000;
/** The longest delay that a timer of Node.js takes. */
const MAX_DELAY_MS = 2_147_483_647;

/** By what tokens are verified, and what that is for, as far as it is known. */
interface Found {
  readonly source: JwtSource;
  readonly algorithms?: readonly JwtAlgorithm[];
}
type Report = (path: string, message: string) => void;

/**
 * Checks the options and fills in defaults. Throws one error that names every mistake, and never a value of the options.
 * `places`: the options about where a token comes from that the caller has.
 */
export function resolveJwtOptions(
  options: JwtAuthOptions,
  caller: string,
  places: readonly (typeof PLACES)[number][] = PLACES,
): JwtSettings {
  const mistakes: OptionMistake[] = [];
  const report: Report = (path, message) => void mistakes.push({ path, message });
  const { issuer, audience, clockToleranceMs = 0, idClaim = 'sub', channelsClaim = 'channels', firstFrame } = options;
  for (const name of Object.keys(options)) {
    const known: readonly string[] = [...KINDS, ...OTHERS, ...places];
    if (!known.includes(name)) report(name, `is no option; known are ${known.join(', ')}`);
  }
  const found = findSource(options, report);
  const algorithms = options.algorithms ?? found?.algorithms;
  const wrong = options.algorithms === undefined ? undefined : algorithmsMistake(options.algorithms, found);
  if (wrong !== undefined) report('algorithms', wrong);
  for (const [path, value] of Object.entries({ issuer, audience })) {
    const list: unknown[] = Array.isArray(value) ? value : [value];
    if (value === undefined) continue;
    if (list.length === 0 || !list.every(isText)) report(path, 'expected text, or a list of texts');
    if (options.verify !== undefined)
      report(path, 'is not looked at where `verify` is given: it has to check the claim');
  }
  if (!isIntegerUpTo(MAX_TOLERANCE_MS, clockToleranceMs)) {
    report('clockToleranceMs', `expected an integer from 0 to ${MAX_TOLERANCE_MS}`);
  }
  for (const [path, value] of Object.entries({ idClaim, channelsClaim })) {
    if (!isText(value)) report(path, 'expected the name of a claim');
  }
  if (firstFrame !== undefined && typeof firstFrame !== 'boolean') report('firstFrame', 'expected a boolean');
  mistakes.push(...findPlaceMistakes(options));
  if (mistakes.length > 0 || found === undefined) {
    const lines = mistakes.map(({ path, message }) => `  - ${path}: ${message}`);
    throw new TypeError([`${caller} has wrong options:`, ...lines].join('\n'));
  }
  const { source } = found;
  const lists = { issuer: listOf(issuer), audience: listOf(audience) };
  return { source, algorithms, ...lists, clockToleranceMs, idClaim, channelsClaim };
}

function findSource(options: JwtAuthOptions, report: Report): Found | undefined {
  const given = KINDS.filter((kind) => options[kind] !== undefined);
  if (options.jwks !== undefined && options.jwksUri === undefined) report('jwks', 'is for `jwksUri`');
  if (given.length !== 1) {
    const unset = KINDS.filter((kind) => kind in options && options[kind] === undefined);
    const hint = unset.length === 0 ? '' : `; ${unset.join(' and ')} is undefined`;
    report(given.join(', ') || 'secret', `expected exactly one of ${KINDS.join(', ')}, got ${given.length}${hint}`);
    return undefined;
  }
  const kind = given[0]!;
  const found = readSource(kind, options, report);
  if (typeof found !== 'string') return found;
  report(kind, found);
  return undefined;
}

/** Reads what tokens are verified by; text is the mistake in it. */
function readSource(kind: (typeof KINDS)[number], options: JwtAuthOptions, report: Report): Found | string {
  const { service, verify } = options;
  switch (kind) {
    case 'secret': {
      const reading = readSecret(options.secret);
      return 'mistake' in reading ? reading.mistake : { ...reading, source: { kind, secret: reading.key } };
    }
    case 'publicKey': {
      const reading = readPublicKey(options.publicKey);
      return 'mistake' in reading ? reading.mistake : { ...reading, source: { kind, key: reading.key } };
    }
    case 'jwksUri':
      return readKeySet(options, report);
    case 'service':
      if (typeof service?.verifyAsync !== 'function') return 'expected the JwtService of @nestjs/jwt';
      return { source: { kind, service } };
    case 'verify':
      if (typeof verify !== 'function') return 'expected a function that gives the claims of a token';
      return { source: { kind, verify } };
    default:
      return kind satisfies never;
  }
}

function readKeySet({ jwksUri, jwks = {} }: JwtAuthOptions, report: Report): Found | string {
  const durations = { ...JWKS };
  for (const [name, value] of Object.entries(jwks)) {
    if (!(name in JWKS)) report(`jwks.${name}`, `is no option; known are ${Object.keys(JWKS).join(', ')}`);
    else if (isIntegerUpTo(MAX_DELAY_MS, value)) Object.assign(durations, { [name]: value });
    else report(`jwks.${name}`, `expected an integer from 0 to ${MAX_DELAY_MS}`);
  }
  const url = URL.canParse(String(jwksUri)) ? new URL(String(jwksUri)) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol))
    return 'expected a URL of https: or, in a network of your own, http:';
  if (url.username !== '' || url.password !== '')
    return 'expected a URL without user and password: no fetch takes them';
  return { source: { kind: 'jwksUri', url, ...durations }, algorithms: PUBLIC_KEY_ALGORITHMS };
}

/** Why a list of algorithms is none, or does not fit what tokens are verified by. */
function algorithmsMistake(given: unknown, found: Found | undefined): string | undefined {
  const all = [...HMAC_ALGORITHMS, ...PUBLIC_KEY_ALGORITHMS];
  const isList = (list: unknown): list is JwtAlgorithm[] =>
    Array.isArray(list) && list.every((name) => all.includes(name as JwtAlgorithm));
  if (!isList(given) || given.length === 0) return `expected a list of some of ${all.join(', ')}`;
  if (found?.source.kind === 'verify') return 'is not looked at where `verify` is given: it has to check the algorithm';
  const { algorithms = all } = found ?? {};
  const foreign = given.filter((name) => !algorithms.includes(name));
  if (foreign.length > 0) return `the key is not for ${foreign.join(', ')}, but for ${algorithms.join(', ')}`;
  const ofSecrets = given.filter((name) => HMAC_ALGORITHMS.includes(name)).length;
  if (ofSecrets === 0 || ofSecrets === given.length) return undefined;
  return 'mixes those of a secret with those of a public key: whoever knows the public key could sign';
}

function listOf(value: string | readonly string[] | undefined): readonly string[] | undefined {
  return typeof value === 'string' ? [value] : value;
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

function isIntegerUpTo(max: number, value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= max;
}
