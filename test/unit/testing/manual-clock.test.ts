import { describe, expect, test } from '@jest/globals';
import { ManualClock } from '../../../lib/testing/manual-clock.js';
import { ManualTurnClock } from '../../support/manual-turn-clock.js';

describe('ManualClock', () => {
  test('runs due timers in the order of their times, then of their making, each at its time', () => {
    const clock = new ManualClock(1_000);
    const ran: string[] = [];
    const note = (name: string) => () => ran.push(`${name}@${clock.now()}`);
    clock.after(20, note('late'));
    clock.after(10, note('first'));
    clock.after(10, note('second'));
    clock.after(31, note('never'));
    clock.advance(30);
    expect(ran).toEqual(['first@1010', 'second@1010', 'late@1020']);
    expect([clock.now(), clock.waiting]).toEqual([1_030, 1]);
  });

  test('repeats intervals, runs what timers add, and stops what is cancelled', () => {
    const clock = new ManualClock(0);
    const ran: string[] = [];
    const stop = clock.every(10, () => {
      ran.push(`tick@${clock.now()}`);
      if (clock.now() === 20) clock.after(5, () => ran.push(`added@${clock.now()}`));
      if (clock.now() === 30) stop();
    });
    clock.after(15, () => ran.push('cancelled'))();
    clock.advance(100);
    expect(ran).toEqual(['tick@10', 'tick@20', 'added@25', 'tick@30']);
    expect(clock.waiting).toBe(0);
  });

  test('settles turns and promises that cause each other', async () => {
    const clock = new ManualClock();
    let rounds = 0;
    const work = async (): Promise<void> => {
      for (let i = 0; i < 50; i++) await Promise.resolve();
      if (++rounds < 5) clock.turn(() => void work());
    };
    void work();
    await clock.settle();
    expect(rounds).toBe(5);
  });

  test('settles between the timers of a pass', async () => {
    const clock = new ManualClock(0);
    const ran: string[] = [];
    clock.after(10, () => void Promise.resolve().then(() => clock.after(10, () => ran.push(`chained@${clock.now()}`))));
    clock.after(30, () => ran.push('last'));
    await clock.pass(30);
    expect(ran).toEqual(['chained@20', 'last']);
  });

  test('jumps as a process that stood still: what is due runs once, at the time when it ends', () => {
    const clock = new ManualClock(0);
    const ran: string[] = [];
    const note = (name: string) => () => ran.push(`${name}@${clock.now()}`);
    clock.every(10, note('tick'));
    clock.after(45, note('late'));
    clock.after(15, note('early'));
    clock.after(12, () => clock.after(1, note('added')));
    clock.after(101, note('never'));
    clock.jump(100);
    expect(ran).toEqual(['tick@100', 'early@100', 'late@100']);
    clock.advance(10);
    expect(ran.slice(3)).toEqual(['never@101', 'added@101', 'tick@110']);
  });

  test('ends turns by itself, and waits for them', async () => {
    const clock = new ManualClock();
    const ran: string[] = [];
    clock.turn(() => ran.push('turn'));
    expect(ran).toEqual([]);
    await clock.settle();
    expect(ran).toEqual(['turn']);
  });
});

describe('ManualTurnClock', () => {
  test('runs in a turn what waited for it, not what is added meanwhile', () => {
    const clock = new ManualTurnClock();
    const ran: string[] = [];
    clock.turn(() => {
      ran.push('first');
      clock.turn(() => ran.push('next turn'));
    });
    expect(ran).toEqual([]);
    clock.runTurn();
    expect(ran).toEqual(['first']);
    clock.runTurn();
    expect(ran).toEqual(['first', 'next turn']);
  });
});
