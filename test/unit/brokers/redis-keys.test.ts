import { describe, expect, test } from '@jest/globals';
import { crc16, RedisKeys } from '../../../lib/brokers/redis-keys.js';

describe('the keys in redis', () => {
  // The check value of CRC-16/XMODEM, and slots that Redis itself gives (CLUSTER KEYSLOT).
  test.each([
    ['123456789', 0x31c3],
    ['', 0],
  ])('crc16 of %j is %i', (text, crc) => {
    expect(crc16(text)).toBe(crc);
  });

  test.each([
    ['foo', 12_182],
    ['somekey', 11_058],
    ['é漢🎈', crc16('é漢🎈') % 16_384],
  ])('crc16 gives %j the slot %i', (key, slot) => {
    expect(crc16(key) % 16_384).toBe(slot);
  });

  test('has all of a channel in one partition, by its name', () => {
    const keys = new RedisKeys('app', 256);
    const p = crc16('chat.lobby') % 256;
    expect(keys.meta('chat.lobby')).toBe(`app:{${p}}:m:chat.lobby`);
    expect(keys.stream('chat.lobby')).toBe(`app:{${p}}:s:chat.lobby`);
    expect(keys.presence('chat.lobby')).toBe(`app:{${p}}:r:chat.lobby`);
    expect(keys.partitionOf('chat.lobby')).toBe(p);
  });

  test('keeps the partition whatever braces a channel holds', () => {
    const keys = new RedisKeys('app', 256);
    for (const channel of ['{x}', '{}', '}{']) expect(keys.meta(channel)).toMatch(/^app:\{\d+\}:m:/);
  });

  test('spreads channels evenly', () => {
    const keys = new RedisKeys('app', 256);
    const counts = new Array<number>(256).fill(0);
    for (let i = 0; i < 25_600; i++) counts[keys.partitionOf(`chat.${i}`)]! += 1;
    expect(Math.min(...counts)).toBeGreaterThan(50);
    expect(Math.max(...counts)).toBeLessThan(150);
  });
});
