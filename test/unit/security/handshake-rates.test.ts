import { describe, expect, it } from '@jest/globals';
import type { HandshakeLimits } from '../../../lib/hub/ports/arrival.js';
import { isRealtimeException } from '../../../lib/protocol/errors.js';
import { HandshakeRates } from '../../../lib/security/handshake-rates.js';
import { ManualClock } from '../../../lib/testing/manual-clock.js';

class Rig {
  readonly clock = new ManualClock();
  readonly rates: HandshakeRates;

  constructor(limits: Partial<HandshakeLimits> = {}) {
    this.rates = new HandshakeRates({ handshakesPerAddress: 100, handshakesPerSecond: 1_000, ...limits }, this.clock);
  }

  /** What becomes of a handshake: `ok`, or the message and the time to wait. */
  take(ip: string): ['ok'] | [message: string, retryAfterMs: number] {
    try {
      this.rates.take(ip);
      return ['ok'];
    } catch (error) {
      if (!isRealtimeException(error) || error.code !== 'rate_limited') throw error;
      return [error.message, error.retryAfterMs!];
    }
  }

  /** How many of some handshakes are let through. */
  passes(count: number, ip: string | ((i: number) => string)): number {
    return Array.from({ length: count }, (_, i) => this.take(typeof ip === 'string' ? ip : ip(i))[0]).filter(
      (told) => told === 'ok',
    ).length;
  }
}

describe('handshakesPerAddress', () => {
  it('lets twice as many through at once, then as many a second as it says', () => {
    const rig = new Rig();
    expect(rig.passes(300, '1.1.1.1')).toBe(200);
    rig.clock.advance(1_000);
    expect(rig.passes(300, '1.1.1.1')).toBe(100);
    rig.clock.advance(60_000);
    expect(rig.passes(300, '1.1.1.1')).toBe(200);
  });

  it('never blocks for longer than the bucket takes, however often an address is refused', () => {
    const rig = new Rig({ handshakesPerAddress: 1 });
    expect(rig.passes(10_000, '1.1.1.1')).toBe(2);
    rig.clock.advance(1_000);
    expect(rig.passes(1, '1.1.1.1')).toBe(1);
  });

  it('asks to wait for a random time of a second or more', () => {
    const rig = new Rig({ handshakesPerAddress: 1 });
    rig.passes(2, '1.1.1.1');
    const waits = Array.from({ length: 50 }, () => rig.take('1.1.1.1'));
    for (const [message, waitMs] of waits) {
      expect(message).toBe('Too many handshakes of this address');
      expect(waitMs).toBeGreaterThanOrEqual(1_000);
      expect(waitMs).toBeLessThanOrEqual(2_000);
    }
    expect(new Set(waits.map(([, waitMs]) => waitMs)).size).toBeGreaterThan(10);
  });

  it('counts IPv6 by networks of 64 bits, and mapped IPv4 as what it is', () => {
    const rig = new Rig({ handshakesPerAddress: 2 });
    expect(rig.passes(10, (i) => `2001:db8:0:1::${i.toString(16)}`)).toBe(4);
    expect(rig.passes(10, (i) => `2001:db8:0:1:${i}:2:3:4`)).toBe(0);
    expect(rig.passes(10, (i) => `2001:db8:0:${i + 2}::1`)).toBe(10);
    expect(rig.passes(10, '2001:DB8::2:0:0:0:9')).toBe(3);
    expect(rig.passes(10, 'fe80::1%eth0')).toBe(4);
    expect(rig.passes(3, '1.2.3.4')).toBe(3);
    expect(rig.passes(3, '::ffff:102:304')).toBe(1);
    expect(rig.passes(3, '::ffff:1.2.3.4')).toBe(0);
    expect(rig.passes(3, '::ffff:1.2.3.5')).toBe(3);
  });

  it('does not count peers whose address nobody knows', () => {
    expect(new Rig({ handshakesPerAddress: 1 }).passes(100, '')).toBe(100);
  });

  it('remembers addresses as long as their buckets take to fill', () => {
    const rig = new Rig({ handshakesPerSecond: Infinity });
    rig.passes(1_000, (i) => `10.0.${i >> 8}.${i & 255}`);
    rig.passes(150, '1.1.1.1');
    expect(rig.rates.size).toBe(1_001);
    rig.clock.advance(1_000);
    rig.passes(1, '2.2.2.2');
    expect(rig.rates.size).toBe(2);
    rig.clock.advance(1_000);
    rig.passes(1, '2.2.2.2');
    expect(rig.rates.size).toBe(1);
  });

  it('remembers 100,000 addresses at most, those that were seen last', () => {
    const rig = new Rig({ handshakesPerAddress: 1, handshakesPerSecond: Infinity });
    const address = (i: number): string => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`;
    rig.passes(2, '1.1.1.1');
    rig.passes(50_000, address);
    expect(rig.take('1.1.1.1')[0]).not.toBe('ok');
    rig.passes(50_000, (i) => address(i + 50_000));
    expect(rig.rates.size).toBe(100_000);
    expect(rig.take('1.1.1.1')[0]).toBe('ok'); // it was refused, which is not remembered
    expect(rig.passes(2, address(99_999))).toBe(1);
  });

  it('survives a clock that is set back', () => {
    const rig = new Rig({ handshakesPerAddress: 1, handshakesPerSecond: 1 });
    rig.passes(2, '1.1.1.1');
    const { now } = rig.clock;
    rig.clock.now = () => now.call(rig.clock) - 86_400_000;
    expect(rig.passes(1, '1.1.1.1')).toBe(0);
    rig.clock.advance(1_000);
    expect(rig.passes(2, '1.1.1.1')).toBe(1);
  });

  it('that is off lets everybody through', () => {
    expect(new Rig({ handshakesPerAddress: Infinity, handshakesPerSecond: Infinity }).passes(5_000, '1.1.1.1')).toBe(
      5_000,
    );
  });
});

describe('handshakesPerSecond', () => {
  it('bounds all addresses together', () => {
    const rig = new Rig();
    expect(rig.passes(3_000, (i) => `10.0.${i >> 8}.${i & 255}`)).toBe(2_000);
    const [message, waitMs] = rig.take('9.9.9.9');
    expect(message).toBe('Too many handshakes');
    expect(waitMs).toBeGreaterThanOrEqual(1_000);
    rig.clock.advance(1_000);
    expect(rig.passes(3_000, (i) => `10.0.${i >> 8}.${i & 255}`)).toBe(1_000);
  });

  it('is not used up by an address that is over its own limit', () => {
    const rig = new Rig({ handshakesPerAddress: 10, handshakesPerSecond: 20 });
    rig.passes(1_000, '1.1.1.1');
    expect(rig.passes(20, (i) => `10.0.0.${i}`)).toBe(20);
  });
});
