import { describe, expect, it } from '@jest/globals';
import { Turn } from '../../../lib/hub/turn.js';
import { ManualTurnClock } from '../../support/manual-turn-clock.js';

describe('the end of a turn', () => {
  it('goes on behind a member that throws, which is not asked again', () => {
    const clock = new ManualTurnClock();
    const turn = new Turn(clock);
    const flushed: string[] = [];
    const member = (name: string) => ({ flush: () => void flushed.push(name) });
    const broken = {
      flush: () => {
        flushed.push('broken');
        throw new Error('a defect');
      },
    };
    for (const one of [member('first'), broken, member('third')]) turn.fanOut(one);
    turn.write(member('outbox'));
    expect(() => clock.runTurn()).toThrow('a defect');
    expect(flushed).toEqual(['first', 'broken']);
    clock.runTurn();
    expect(flushed).toEqual(['first', 'broken', 'third', 'outbox']);
    turn.append(member('later'));
    clock.runTurn();
    expect(flushed.at(-1)).toBe('later');
  });
});
