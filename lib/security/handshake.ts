import type { IncomingMessage } from 'node:http';
import type { Arrival, Gate, Handshake, Visit } from '../hub/ports/arrival.js';
import { identify } from '../hub/ports/authenticator.js';
import type { AdmittedConnection, Reception, ResumedConnection } from '../hub/ports/transport.js';
import { isRealtimeException, RealtimeException } from '../protocol/errors.js';
import { extractCredentials, selectSubprotocol } from './credentials.js';
import { HandshakeRates } from './handshake-rates.js';
import { inTime } from './in-time.js';
import { OriginPolicy, type OriginSetting } from './origin.js';
import { ProxyTrust, type TrustedProxies } from './proxy.js';
import { takeFromQuery } from './redaction.js';

/** The parameter of the query by which a one-time ticket comes. */
const TICKET = 'ticket';
/** How long a refused peer is asked to wait where the node is going away, ms: a random time up to twice this. */
const DRAINING_RETRY_MS = 1_000;

/** What the handshake can be told. */
export interface HandshakeOptions {
  /** @defaultValue 'same-host' */
  origins?: OriginSetting;
  /** @defaultValue 0 */
  trustedProxies?: TrustedProxies;
}

/**
 * The handshake, in its fixed order: accepting → origin → rates and numbers of connections → credentials → who is it →
 * connection guards → the user's connections. Each step refuses with the code of the table; a connection that did not
 * get through is forgotten.
 */
export class PeerHandshake implements Handshake {
  readonly #proxies: ProxyTrust;
  readonly #origins: OriginPolicy;
  readonly #rates: HandshakeRates;
  /** The parameters of the query that hold credentials. */
  readonly #secretNames: readonly string[];

  constructor(
    private readonly gate: Gate,
    { origins = 'same-host', trustedProxies = 0 }: HandshakeOptions = {},
    untrustedProxy?: () => void,
  ) {
    this.#proxies = new ProxyTrust(trustedProxies, untrustedProxy);
    this.#origins = new OriginPolicy(origins, this.#proxies);
    this.#rates = new HandshakeRates(gate.settings.limits, gate.settings.clock);
    const { anonymous, query } = gate.auth;
    this.#secretNames = [anonymous ? undefined : TICKET, query].filter((name) => name !== undefined);
  }

  takeSecrets(request: IncomingMessage): Readonly<Record<string, string>> {
    return takeFromQuery(request, this.#secretNames);
  }

  cors(request: IncomingMessage): Record<string, string> | undefined {
    return this.#origins.headers(request);
  }

  subprotocol(request: IncomingMessage): 'bearer' | undefined {
    return selectSubprotocol(request);
  }

  async perform(visit: Visit): Promise<AdmittedConnection> {
    const { meter, settings } = this.gate;
    const begun = performance.now();
    const span = settings.tracing?.handshake(visit);
    try {
      const connection = await (span === undefined ? this.#perform(visit) : span.run(() => this.#perform(visit)));
      meter.handshake.observe((performance.now() - begun) / 1_000);
      return connection;
    } catch (error) {
      const code = isRealtimeException(error) ? error.code : 'internal';
      meter.refused.add(code);
      span?.fail(code, error);
      throw error;
    } finally {
      span?.end();
    }
  }

  async #perform(visit: Visit): Promise<AdmittedConnection> {
    const { gate } = this;
    const { endpoint, transport, request, query, params, recorded } = visit;
    this.#requireAccepting();
    if (!this.#origins.allows(request)) throw new RealtimeException('origin_refused');
    const ip = this.#proxies.clientAddress(request);
    this.#rates.take(ip);
    const place = visit.passing ? undefined : gate.places.enter(ip);
    let connection: AdmittedConnection | undefined;
    try {
      const identity = await this.#inTime(this.#identify(visit));
      this.#requireAccepting();
      connection = gate.arrive({
        endpoint,
        transport,
        request,
        ip,
        query,
        params,
        ...(place && { place }),
        ...identity,
        ...(recorded && { recorded }),
      });
      if (identity.awaitsToken) return connection; // guards run once the token is there
      await this.#inTime(gate.admit(connection));
      this.#requireAccepting();
      return connection;
    } catch (error) {
      if (connection !== undefined) gate.forget(connection);
      else if (place !== undefined) gate.places.leave(place);
      throw error;
    }
  }

  receive(visit: Visit): Reception {
    return {
      begin: () => this.#begin(visit),
      establish: async (wish) => {
        const connection = await this.perform({ ...visit, recorded: true });
        return this.#orForget(connection, this.gate.records.establish(connection, wish));
      },
      read: async (wish) => {
        const connection = await this.perform(visit);
        const answer = await this.#orForget(connection, this.gate.records.read(connection, wish));
        this.gate.forget(connection);
        return answer;
      },
      resume: (pass) => this.#resume(visit, pass),
    };
  }

  #begin({ request }: Visit): () => void {
    this.#requireAccepting();
    if (!this.#origins.allows(request)) throw new RealtimeException('origin_refused');
    const place = this.gate.places.enter(this.#proxies.clientAddress(request));
    return () => this.gate.places.leave(place);
  }

  async #orForget<T>(connection: AdmittedConnection, step: Promise<T>): Promise<T> {
    try {
      return await step;
    } catch (error) {
      this.gate.forget(connection);
      throw error;
    }
  }

  /**
   * A pass that is none any more costs a handshake; one that this node knows costs nothing. Who comes with others than
   * the credentials before renews them so.
   */
  async #resume(visit: Visit, pass: string): Promise<ResumedConnection> {
    const { records } = this.gate;
    const { endpoint, request, query, params, secrets } = visit;
    this.#requireAccepting();
    if (!this.#origins.allows(request)) throw new RealtimeException('origin_refused');
    const ip = this.#proxies.clientAddress(request);
    const known = records.knows(pass);
    if (!known) this.#rates.check(ip);
    let connection: ResumedConnection;
    try {
      connection = await records.resume(pass, { endpoint, request, query, params, ip });
    } catch (error) {
      this.#rates.take(ip);
      throw error;
    }
    const { auth } = this.gate;
    const credentials = auth.anonymous ? undefined : extractCredentials(request, auth, secrets);
    if (credentials === undefined || records.isKnownToken(connection, credentials.token)) return connection;
    const user = await this.#inTime(identify(auth, credentials));
    records.renew(connection, user, credentials.token);
    return connection;
  }

  abandon(connection: AdmittedConnection): void {
    this.gate.forget(connection);
  }

  async #identify({
    request,
    secrets,
    takesFrames,
    takesTickets,
  }: Visit): Promise<Pick<Arrival, 'user' | 'awaitsToken'>> {
    const { auth } = this.gate;
    if (auth.anonymous) return { user: undefined, awaitsToken: false };
    const ticket = secrets[TICKET] ?? '';
    if (ticket !== '') {
      if (!takesTickets) throw new RealtimeException('unauthenticated');
      return { user: await this.gate.redeem(ticket), awaitsToken: false };
    }
    const credentials = extractCredentials(request, auth, secrets);
    if (credentials === undefined) {
      if (takesFrames && auth.firstFrame !== false) return { user: undefined, awaitsToken: true };
      throw new RealtimeException('unauthenticated');
    }
    return { user: await identify(auth, credentials), awaitsToken: false };
  }

  draining(): RealtimeException {
    const refusal = new RealtimeException('draining');
    refusal.retryAfterMs = Math.round(DRAINING_RETRY_MS * (1 + Math.random()));
    return refusal;
  }

  /** A step that does not end would keep its peer's place. */
  #inTime<T>(step: Promise<T>): Promise<T> {
    return inTime(this.gate.settings.clock, 'A step of a handshake', step);
  }

  #requireAccepting(): void {
    if (!this.gate.accepting) throw this.draining();
  }
}
