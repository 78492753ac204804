import { describe, expect, test } from '@jest/globals';
import { firstValueFrom, map } from 'rxjs';
import { answersOf, eventOf, membersOf, publicationsOf, signalOf, stateOf } from '../../../lib/rxjs/observables.js';
import { answer, makeRig, openRig, position } from '../client/fake-transport.js';

/** Notes what an observable does. */
function noting<T>(): { seen: unknown[]; next: (value: T) => void; error: (error: any) => void; complete: () => void } {
  const seen: unknown[] = [];
  return {
    seen,
    next: (value) => seen.push(value),
    error: ({ code }) => seen.push(`error: ${code}`),
    complete: () => seen.push('complete'),
  };
}

describe('the publications of a channel', () => {
  test('come as long as somebody observes, over reconnects; the last observer leaves the channel', async () => {
    const rig = makeRig();
    const chat = rig.client.channel<{ message: number; note: string }>('chat');
    const [all, some] = [noting<unknown>(), noting<unknown>()];
    const first = publicationsOf(chat)
      .pipe(map(({ event, data, offset }) => [event, data, offset]))
      .subscribe(all);
    const second = eventOf(chat, 'note').subscribe(some);
    await rig.clock.settle();
    rig.transport.link.open({ chat: answer(1) });
    rig.transport.link.publication('chat', 2, 7);
    rig.transport.link.publication('chat', 3, 'x', 'note');
    rig.transport.link.end();
    await rig.clock.pass(1_000);
    rig.transport.link.open({ chat: answer(3, { recovered: true, until: position(4) }) });
    rig.transport.link.publication('chat', 4, 'y', 'note');
    await rig.clock.settle();
    expect(all.seen).toEqual([
      ['message', 7, 2],
      ['note', 'x', 3],
      ['note', 'y', 4],
    ]);
    expect(some.seen).toEqual(['x', 'y']);
    first.unsubscribe();
    await rig.clock.settle();
    expect(chat.state).toBe('subscribed');
    rig.transport.link.publication('chat', 5, 'z', 'note');
    await rig.clock.settle();
    second.unsubscribe();
    await rig.clock.settle();
    expect(chat.state).toBe('unsubscribed');
    expect(rig.transport.link.count('$unsubscribe')).toBe(1);
    expect(some.seen).toEqual(['x', 'y', 'z']);
    expect(all.seen).toHaveLength(3);
    rig.client.close();
  });

  test('leave a channel subscribed that was subscribed otherwise', async () => {
    const { client, clock } = await openRig({}, 'chat');
    publicationsOf(client.channel('chat')).subscribe().unsubscribe();
    await clock.settle();
    expect(client.channel('chat').state).toBe('subscribed');
    client.close();
  });

  test('complete when the client is closed, and error with what the hub refuses', async () => {
    const { client, clock, link } = await openRig();
    const [good, bad] = [noting<unknown>(), noting<unknown>()];
    publicationsOf(client.channel('good')).subscribe(good);
    await clock.settle();
    link.answer('$subscribe', answer(1));
    publicationsOf(client.channel('bad')).subscribe(bad);
    await clock.settle();
    link.refuse('$subscribe', { code: 'forbidden' });
    await clock.settle();
    expect(bad.seen).toEqual(['error: forbidden']);
    client.close();
    await clock.settle();
    expect(good.seen).toEqual(['complete']);
  });

  test('can be observed anew after the channel was left', async () => {
    const { client, clock, link } = await openRig();
    const chat = client.channel('chat');
    publicationsOf(chat).subscribe().unsubscribe();
    await clock.settle();
    const next = firstValueFrom(publicationsOf(chat));
    await clock.settle();
    link.answer('$subscribe', answer(4));
    link.publication('chat', 5, 'again');
    await expect(next).resolves.toMatchObject({ data: 'again', offset: 5 });
    client.close();
  });
});

test('signals tell what became of a channel', async () => {
  const { client, clock, link, transport } = await openRig();
  const chat = client.channel('chat');
  const [recovered, lost] = [noting<unknown>(), noting<unknown>()];
  signalOf(chat, 'recovered').subscribe(recovered);
  const stop = signalOf(chat, 'lost').subscribe(lost);
  await clock.settle();
  link.answer('$subscribe', answer(1));
  link.end();
  await clock.pass(1_000);
  transport.link.open({ chat: answer(1, { recovered: true, until: position(1) }) });
  transport.link.frame({ channel: 'chat', event: '$lost', data: { position: position(9), reason: 'trimmed' } });
  expect(recovered.seen).toEqual([{ position: position(1), count: 0 }]);
  expect(lost.seen).toEqual([{ since: position(1), position: position(9), reason: 'trimmed' }]);
  stop.unsubscribe();
  transport.link.frame({ channel: 'chat', event: '$lost', data: { position: position(10), reason: 'trimmed' } });
  expect(lost.seen).toHaveLength(1);
  client.close();
});

test('members are told at first and whenever they change', async () => {
  const { client, clock, link } = await openRig();
  const members = noting<unknown>();
  membersOf(client.channel('chat'))
    .pipe(map((list) => list.map(({ id }) => id)))
    .subscribe(members);
  await clock.settle();
  link.answer('$subscribe', answer(1));
  await clock.settle();
  link.answer('$presence', { rev: 1, count: 1, users: [{ id: 'ada', info: null, connections: 1 }] });
  await clock.settle();
  const joined = [{ id: 'bob', info: null }];
  link.frame({ channel: 'chat', event: '$presence', data: { prev: 1, rev: 2, count: 2, joined, left: [] } });
  await clock.settle();
  expect(members.seen).toEqual([['ada'], ['ada', 'bob']]);
  client.close();
});

test('the state is told at once, then each that follows; observing connects nothing', async () => {
  const rig = makeRig();
  const states = noting<unknown>();
  const stop = stateOf(rig.client).subscribe(states);
  await rig.clock.settle();
  expect(rig.transport.links).toHaveLength(0);
  void rig.client.connect();
  await rig.clock.settle();
  rig.transport.link.open();
  stop.unsubscribe();
  rig.client.close();
  expect(states.seen).toEqual(['closed', 'connecting', 'open']);
});

describe('the answers of a handler', () => {
  test('are asked for by each observer, and complete with the stream', async () => {
    const { client, clock, link } = await openRig();
    const ticks = answersOf<number>(client, 'ticks', 2);
    expect(link.count('ticks')).toBe(0);
    const seen = noting<number>();
    ticks.subscribe(seen);
    await clock.settle();
    const { id } = link.last('ticks');
    link.frame({ id, data: 1, more: true });
    link.frame({ id, data: 2, more: true });
    link.frame({ id, done: true });
    await clock.settle();
    expect(seen.seen).toEqual([1, 2, 'complete']);
    client.close();
  });

  test('are cancelled when nobody observes them any more, and error with the code', async () => {
    const { client, clock, link } = await openRig();
    const stop = answersOf(client, 'ticks').subscribe();
    await clock.settle();
    const { id } = link.last('ticks');
    stop.unsubscribe();
    await clock.settle();
    expect(link.last('$cancel').data).toEqual({ id });
    const refused = noting<unknown>();
    answersOf(client, 'secret').subscribe(refused);
    await clock.settle();
    link.refuse('secret', { code: 'forbidden' });
    await clock.settle();
    expect(refused.seen).toEqual(['error: forbidden']);
    client.close();
  });
});
