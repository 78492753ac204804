import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { Model } from '../../../lib/admin/page/model.js';
import { Reader } from '../../../lib/admin/page/reader.js';

const REFRESH_MS = 5_000;
const BROKER_AWAY = expect.stringContaining('The broker is away');

describe('what a view reads', () => {
  const model = { brokerAway: false };
  let answers: { resolve: (found: string) => void; reject: (error: unknown) => void }[];
  let said: unknown[];
  let reader: Reader<string>;

  beforeEach(() => {
    jest.useFakeTimers();
    Object.assign(globalThis, { document: { hidden: false } });
    model.brokerAway = false;
    answers = [];
    said = [];
    reader = new Reader<string>(model as unknown as Model, {
      ask: () => new Promise((resolve, reject) => answers.push({ resolve, reject })),
      show: (found) => said.push(found),
      told: (problem) => said.push(problem),
    });
  });

  afterEach(() => {
    reader.stop();
    jest.useRealTimers();
    Reflect.deleteProperty(globalThis, 'document');
  });

  const answer = async (i: number, found: string): Promise<void> => {
    answers[i]!.resolve(found);
    await jest.advanceTimersByTimeAsync(0);
  };

  it('is read anew when the answer is there, and an older answer is passed over', async () => {
    await jest.advanceTimersByTimeAsync(3 * REFRESH_MS);
    expect(answers).toHaveLength(1); // it takes long
    reader.load();
    await answer(1, 'new');
    await answer(0, 'old');
    expect(said).toEqual(['new']);
    await jest.advanceTimersByTimeAsync(REFRESH_MS);
    expect(answers).toHaveLength(3);
  });

  it('tells that the broker is away before there is an answer, and reads as soon as it is back', async () => {
    model.brokerAway = true;
    reader.check();
    expect(said).toEqual([BROKER_AWAY]);
    answers[0]!.reject({ code: 'broker_unavailable', message: '503' });
    await jest.advanceTimersByTimeAsync(0);
    expect(said).toEqual([BROKER_AWAY, BROKER_AWAY]);
    model.brokerAway = false;
    reader.check();
    await answer(1, 'back');
    expect(said.slice(2)).toEqual(['back']);
  });

  it('shows what a node answers that has the broker', async () => {
    model.brokerAway = true;
    reader.check();
    await answer(0, 'there');
    reader.check();
    expect(said).toEqual([BROKER_AWAY, 'there']);
  });
});
