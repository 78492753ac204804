import type { IncomingMessage } from 'node:http';
import { describe, expect, it } from '@jest/globals';
import type { Gate, Visit } from '../../../lib/hub/ports/arrival.js';
import { anonymous, type Authenticator } from '../../../lib/hub/ports/authenticator.js';
import { Meter } from '../../../lib/hub/ports/meter.js';
import type { AdmittedConnection } from '../../../lib/hub/ports/transport.js';
import { PeerHandshake } from '../../../lib/security/handshake.js';
import { ManualClock } from '../../../lib/testing/manual-clock.js';

/** A hub that counts places and forgets. */
class Rig {
  readonly clock = new ManualClock();
  places = 0;
  forgotten = 0;
  readonly handshake: PeerHandshake;

  constructor(parts: { auth?: Authenticator; admit?: () => Promise<void> }) {
    const gate: Gate = {
      accepting: true,
      auth: parts.auth ?? anonymous(),
      settings: { clock: this.clock, limits: { handshakesPerAddress: Infinity, handshakesPerSecond: Infinity } },
      meter: new Meter(),
      places: {
        enter: () => {
          this.places++;
          return { left: false };
        },
        leave: () => {
          this.places--;
        },
      },
      get records(): never {
        throw new Error('no pass is offered');
      },
      redeem: () => Promise.reject(new Error('no ticket is offered')),
      arrive: () => ({}) as AdmittedConnection,
      admit: parts.admit ?? (() => Promise.resolve()),
      forget: () => {
        this.forgotten++;
        this.places--;
      },
    };
    this.handshake = new PeerHandshake(gate);
  }

  perform(headers: Record<string, string> = {}): Promise<AdmittedConnection> {
    const request = { headers, socket: { remoteAddress: '127.0.0.1' } } as unknown as IncomingMessage;
    const visit: Visit = {
      endpoint: '0:/',
      transport: 'sse',
      route: '/sse',
      path: '/sse',
      request,
      query: {},
      secrets: {},
      params: {},
      takesFrames: false,
      takesTickets: true,
      passing: false,
    };
    return this.handshake.perform(visit);
  }
}

const never = (): Promise<never> => new Promise(() => undefined);

describe('a handshake', () => {
  it.each<[who: string, parts: ConstructorParameters<typeof Rig>[0], forgotten: number]>([
    ['authenticator', { auth: { authenticate: never } }, 0],
    ['guard', { admit: never }, 1],
  ])('is given up after 10 s of the %s, and its place is left', async (_who, parts, forgotten) => {
    const rig = new Rig(parts);
    let told: unknown;
    rig.perform({ authorization: 'Bearer some-token' }).catch((error: unknown) => (told = error));
    await rig.clock.pass(9_999);
    expect([told, rig.places]).toEqual([undefined, 1]);
    await rig.clock.pass(1);
    expect(String(told)).toContain('longer than 10000 ms');
    expect([rig.places, rig.forgotten, rig.clock.waiting]).toEqual([0, forgotten, 0]);
  });

  it('leaves its place where it is refused, and no timer', async () => {
    const refusing = new Rig({ auth: { authenticate: () => Promise.reject(new Error('no')) } });
    await expect(refusing.perform({ authorization: 'Bearer some-token' })).rejects.toThrow('no');
    await expect(refusing.perform()).rejects.toMatchObject({ code: 'unauthenticated' });
    const guarded = new Rig({ admit: () => Promise.reject(new Error('no')) });
    await expect(guarded.perform()).rejects.toThrow('no');
    for (const rig of [refusing, guarded]) expect([rig.places, rig.clock.waiting]).toEqual([0, 0]);
  });

  it('keeps its place where it is accepted', async () => {
    const rig = new Rig({});
    await rig.perform();
    expect([rig.places, rig.forgotten, rig.clock.waiting]).toEqual([1, 0, 0]);
  });
});
