import { describe, expect, test } from '@jest/globals';
import { Deadlines } from '../../../lib/hub/deadlines.js';

class Item {
  dueAt: number | undefined;
  constructor(readonly name: string) {}
}

const START = 1_700_000_000_000;

describe('Deadlines', () => {
  const namesOf = (items: Item[]): string[] => items.map(({ name }) => name).sort();

  test('gives out items at their time, once, to the millisecond', () => {
    const deadlines = new Deadlines<Item>();
    deadlines.set(new Item('a'), START + 1_500);
    deadlines.set(new Item('b'), START + 1_501);
    deadlines.set(new Item('c'), START + 90_000_000);
    expect(namesOf(deadlines.takeDue(START + 1_499))).toEqual([]);
    expect(namesOf(deadlines.takeDue(START + 1_500))).toEqual(['a']);
    expect(namesOf(deadlines.takeDue(START + 1_501))).toEqual(['b']);
    expect(namesOf(deadlines.takeDue(START + 89_999_999))).toEqual([]);
    expect(namesOf(deadlines.takeDue(START + 90_000_000))).toEqual(['c']);
    expect(namesOf(deadlines.takeDue(Infinity))).toEqual([]);
  });

  test('moves an item that is set again, and forgets one that is deleted', () => {
    const deadlines = new Deadlines<Item>();
    const [moved, deleted] = [new Item('moved'), new Item('deleted')];
    deadlines.set(moved, START);
    deadlines.set(deleted, START);
    deadlines.set(moved, START + 5_000);
    deadlines.delete(deleted);
    deadlines.delete(deleted);
    expect(deleted.dueAt).toBeUndefined();
    expect(deadlines.takeDue(START + 4_999)).toEqual([]);
    expect(namesOf(deadlines.takeDue(START + 5_000))).toEqual(['moved']);
  });

  test('gives out what is set into the past, and survives a clock that goes back', () => {
    const deadlines = new Deadlines<Item>();
    expect(deadlines.takeDue(START + 60_000)).toEqual([]);
    deadlines.set(new Item('late'), START);
    expect(namesOf(deadlines.takeDue(START + 60_000))).toEqual(['late']);
    deadlines.set(new Item('after'), START + 2_000);
    expect(deadlines.takeDue(START + 1_000)).toEqual([]);
    expect(namesOf(deadlines.takeDue(START + 2_000))).toEqual(['after']);
  });

  test('agrees with a plain list over a long run of sets, deletes and steps of time', () => {
    const deadlines = new Deadlines<Item>();
    const plain = new Map<Item, number>();
    let seed = 1;
    const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
    let now = START;
    const items = Array.from({ length: 200 }, (_, i) => new Item(`i${i}`));
    for (let step = 0; step < 5_000; step++) {
      const item = items[random(items.length)]!;
      if (random(4) === 0) {
        deadlines.delete(item);
        plain.delete(item);
      } else {
        const at = now + random(20) * random(900);
        deadlines.set(item, at);
        plain.set(item, at);
      }
      if (random(3) > 0) continue;
      now += random(1_200);
      const due = [...plain].filter(([, at]) => at <= now).map(([one]) => one);
      for (const one of due) plain.delete(one);
      expect(namesOf(deadlines.takeDue(now))).toEqual(namesOf(due));
    }
  });
});
