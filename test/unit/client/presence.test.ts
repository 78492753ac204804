import { describe, expect, test } from '@jest/globals';
import { answer, openRig, type FakeLink, type Rig } from './fake-transport.js';

const user = (id: string) => ({ id, info: null, connections: 1 });
const member = (id: string) => ({ id, info: null });

async function presenceRig(): Promise<Rig & { link: FakeLink; told: unknown[] }> {
  const rig = await openRig();
  const chat = rig.client.channel('chat');
  const told: unknown[] = [];
  chat.on('presence', (members) => told.push(members.map(({ id }) => id).join()));
  chat.on('join', ({ id }) => told.push(`+${id}`));
  chat.on('leave', ({ id }) => told.push(`-${id}`));
  await rig.clock.settle();
  rig.link.answer('$subscribe', answer(1));
  await rig.clock.settle();
  rig.link.answer('$presence', { rev: 4, count: 2, users: [user('ann'), user('bob')] });
  await rig.clock.settle();
  return { ...rig, told };
}

const change = (link: FakeLink, data: Record<string, unknown>) =>
  link.frame({ channel: 'chat', event: '$presence', data });

test('members are asked for once when the channel is live, and told', async () => {
  const { client, link, told } = await presenceRig();
  expect(link.count('$presence')).toBe(1);
  expect(told).toEqual(['ann,bob']);
  client.close();
});

test('changes that begin at the known revision are applied, however many are merged', async () => {
  const { client, link, told } = await presenceRig();
  change(link, { prev: 4, rev: 5, count: 2, joined: [member('cid')], left: ['ann'] });
  expect(told.slice(1)).toEqual(['-ann', '+cid', 'bob,cid']);
  change(link, { prev: 5, rev: 9, count: 3, joined: [member('dan'), member('eve')], left: ['bob'] });
  expect(told.slice(4)).toEqual(['-bob', '+dan', '+eve', 'cid,dan,eve']);
  change(link, { prev: 7, rev: 9, count: 3, joined: [member('fay')], left: [] });
  expect(told).toHaveLength(8);
  expect(link.count('$presence')).toBe(1);
  client.close();
});

test('a jump of the revision or a change without lists makes it ask again, merged and spaced', async () => {
  const { client, link, told, clock } = await presenceRig();
  change(link, { prev: 6, rev: 7, count: 3, joined: [member('dan')], left: [] });
  change(link, { prev: 7, rev: 8, count: 3 });
  change(link, { prev: 8, rev: 9, count: 3 });
  await clock.pass(250);
  expect(link.count('$presence')).toBe(2);
  change(link, { prev: 9, rev: 10, count: 3 });
  link.answer('$presence', { rev: 9, count: 2, users: [user('bob'), user('dan')] });
  await clock.settle();
  expect(told.slice(1)).toEqual(['-ann', '+dan', 'bob,dan']);
  await clock.pass(250);
  expect(link.count('$presence')).toBe(3);
  client.close();
});

test('a change that ends at the next revision but begins before the known one makes it ask again', async () => {
  const { client, link, told, clock } = await presenceRig();
  change(link, { prev: 3, rev: 5, count: 2, joined: [member('cid')], left: [] });
  await clock.pass(250);
  expect(told).toEqual(['ann,bob']);
  expect(link.count('$presence')).toBe(2);
  client.close();
});

test('after a reconnect it asks again and tells the difference', async () => {
  const rig = await presenceRig();
  rig.link.end();
  await rig.clock.pass(1_000);
  const link = rig.transport.link.open({ chat: answer(1, { recovered: true }) });
  await rig.clock.settle();
  link.answer('$presence', { rev: 9, count: 2, users: [user('bob'), user('eve')] });
  await rig.clock.settle();
  expect(rig.told.slice(1)).toEqual(['-ann', '+eve', 'bob,eve']);
  expect(rig.errors).toEqual([]);
  rig.client.close();
});

test('presence() resolves with the members and follows them from then on', async () => {
  const rig = await openRig();
  const chat = rig.client.channel('chat');
  const members = chat.presence();
  await rig.clock.settle();
  rig.link.answer('$presence', { rev: 1, count: 1, users: [user('ann')] });
  await expect(members).resolves.toEqual([user('ann')]);
  const refused = chat.presence();
  await rig.clock.settle();
  rig.link.refuse('$presence', { code: 'not_available' });
  await expect(refused).rejects.toMatchObject({ code: 'not_available' });
  rig.client.close();
});

test('a channel without presence tells it once, as error', async () => {
  const rig = await openRig();
  const chat = rig.client.channel('chat');
  chat.on('join', () => {});
  await rig.clock.settle();
  rig.link.answer('$subscribe', answer(1));
  await rig.clock.settle();
  rig.link.refuse('$presence', { code: 'not_available' });
  await rig.clock.pass(60_000);
  expect(rig.errors).toEqual([expect.objectContaining({ code: 'not_available' })]);
  expect(rig.link.count('$presence')).toBe(1);
  rig.client.close();
});

describe('over a link that cannot ask', () => {
  async function blindRig() {
    const rig = await presenceRig();
    rig.link.end();
    await rig.clock.pass(1_500);
    const link = rig.transport.link.open({ chat: answer(1, { recovered: true }) });
    await rig.clock.settle();
    link.refuse('$presence', { code: 'not_available' });
    await rig.clock.settle();
    rig.told.length = 0;
    return { ...rig, link };
  }

  test('changes are applied to the members that are known, as long as none was missed', async () => {
    const { client, link, told } = await blindRig();
    change(link, { prev: 4, rev: 5, count: 2, joined: [member('cid')], left: ['ann'] });
    expect(told).toEqual(['-ann', '+cid', 'bob,cid']);
    client.close();
  });

  test('changes are told by join and leave alone after one was missed, and nobody is asked', async () => {
    const { client, link, told, errors, clock } = await blindRig();
    change(link, { prev: 6, rev: 7, count: 3, joined: [member('cid')], left: ['bob'] });
    change(link, { prev: 7, rev: 8, count: 3, joined: [], left: ['cid', 'dan'] });
    change(link, { prev: 8, rev: 9, count: 300 });
    await clock.pass(30_000);
    expect(told).toEqual(['-bob', '+cid', '-dan', '-cid']);
    expect(link.count('$presence')).toBe(1);
    expect(errors).toEqual([expect.objectContaining({ code: 'not_available' })]);
    client.close();
  });

  test('the next link asks again, and those who are there at first do not join', async () => {
    const rig = await blindRig();
    change(rig.link, { prev: 6, rev: 7, count: 3, joined: [member('cid')], left: ['bob'] });
    rig.link.end();
    await rig.clock.pass(3_000);
    const link = rig.transport.link.open({ chat: answer(1, { recovered: true }) });
    await rig.clock.settle();
    link.answer('$presence', { rev: 9, count: 2, users: [user('ann'), user('eve')] });
    await rig.clock.settle();
    expect(rig.told).toEqual(['-bob', '+cid', '-cid', 'ann,eve']);
    rig.client.close();
  });
});
