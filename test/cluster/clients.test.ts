import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { RealtimeClient, type ClientOptions } from '../../lib/client/index.js';
import type { Score } from '../../sample/basketball.js';
import { sendToRedis, until } from '../support/redis-server.js';
import { Cluster, isAlive } from './support/cluster.js';

jest.setTimeout(180_000); // a busy machine

/** One peer that follows a chat room through nginx. */
interface Follower {
  readonly name: string;
  /** The connections that it had. */
  readonly connections: string[];
  readonly texts: string[];
  readonly losses: unknown[];
}

let cluster: Cluster;
const dispose: (() => void)[] = [];
let rooms = 0;

beforeAll(async () => {
  cluster = await Cluster.start();
}, 240_000);

afterEach(() => {
  for (const end of dispose.splice(0).reverse()) end();
});

afterAll(async () => {
  await cluster.end();
});

const newRoom = (): string => `chat.clients${++rooms}`;

function openClient(options: ClientOptions = {}): RealtimeClient {
  const client = new RealtimeClient(`${cluster.url}/realtime`, { WebSocket, backoff: { minMs: 100 }, ...options });
  dispose.push(() => client.close());
  return client;
}

async function followWithClient(name: string, room: string, options?: ClientOptions): Promise<Follower> {
  const follower: Follower = { name, connections: [], texts: [], losses: [] };
  const client = openClient(options);
  client.on('connected', ({ connection }) => follower.connections.push(connection));
  const chat = client.channel<{ message: { text: string } }>(room);
  chat.on('message', ({ text }) => follower.texts.push(text));
  chat.on('lost', (data) => follower.losses.push(data));
  chat.on('skipped', (data) => follower.losses.push(data));
  await chat.subscribe();
  return follower;
}

async function followWithEventSource(name: string, room: string): Promise<Follower> {
  const follower: Follower = { name, connections: [], texts: [], losses: [] };
  const source = new EventSource(`${cluster.url}/realtime/sse?channels=${room}`);
  dispose.push(() => source.close());
  source.addEventListener('message', ({ data }) =>
    follower.texts.push((JSON.parse(data as string) as { text: string }).text),
  );
  for (const event of ['$lost', '$skipped']) source.addEventListener(event, ({ data }) => follower.losses.push(data));
  await new Promise<void>((resolve) => {
    source.addEventListener('$open', ({ data }) => {
      const { connection, cursor } = JSON.parse(data as string) as { connection: string; cursor: string };
      if (cursor === 'ignored') follower.losses.push(data);
      follower.connections.push(connection);
      resolve();
    });
  });
  return follower;
}

/** Peers of three kinds, one after the other: nginx gives them to the nodes in turn. */
async function followAll(room: string): Promise<Follower[]> {
  const followers: Follower[] = [];
  for (let i = 1; i <= 4; i++) {
    followers.push(await followWithClient(`websocket ${i}`, room));
    followers.push(await followWithClient(`sse ${i}`, room, { receiveOnly: true }));
    followers.push(await followWithEventSource(`EventSource ${i}`, room));
  }
  return followers;
}

async function nodesOf(followers: readonly Follower[], kind: string): Promise<number> {
  const chosen = followers.filter(({ name }) => name.startsWith(kind));
  return new Set(await Promise.all(chosen.map(({ connections }) => cluster.nodeOf(connections[0]!)))).size;
}

async function expectTexts(followers: readonly Follower[], texts: readonly string[]): Promise<void> {
  for (const follower of followers) {
    await until(() => follower.texts.length >= texts.length, `${follower.name} has ${texts.length} texts`);
    expect({ name: follower.name, texts: follower.texts }).toEqual({ name: follower.name, texts });
    expect({ name: follower.name, losses: follower.losses }).toEqual({ name: follower.name, losses: [] });
  }
}

/** Whether the port answers. */
async function listens(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

const elapsed = ({ quarter, clock }: Score): number => {
  const [minutes, seconds] = clock.split(':').map(Number);
  return quarter * 720 - minutes! * 60 - seconds!;
};

describe('peers behind nginx', () => {
  it('are spread over both nodes, and each gets everything once and in order', async () => {
    const room = newRoom();
    const followers = await followAll(room);
    for (const kind of ['websocket', 'sse', 'EventSource']) {
      expect({ kind, nodes: await nodesOf(followers, kind) }).toEqual({ kind, nodes: 2 });
    }
    const writers = [openClient(), openClient()].map((client) => client.channel(room));
    const texts: string[] = [];
    for (let i = 1; i <= 40; i++) {
      texts.push(`text ${i}`);
      await writers[i % 2]!.publish('message', { text: `text ${i}` });
    }
    await expectTexts(followers, texts);
  });

  it('lose nothing and get nothing twice when the leading node is killed, and the feeds go on', async () => {
    const room = newRoom();
    const followers = await followAll(room);
    const scores: { score: Score; offset: number }[] = [];
    const losses: unknown[] = [];
    const reader = openClient();
    const board = reader.channel<{ update: Score }>('scores.final');
    board.on('update', (score, { offset }) => scores.push({ score, offset }));
    board.on('lost', (data) => losses.push(data));
    await board.subscribe();
    await until(() => scores.length > 0, 'a score');

    const leader = await sendToRedis(cluster.redisPort, 'GET', 'realtime-demo:leader');
    const victim = cluster.nodes.find(({ pid }) => leader.endsWith(`:${pid}`))!;
    const writer = openClient().channel(room);
    const texts: string[] = [];
    const publishing = [];
    for (let i = 1; i <= 60; i++) {
      texts.push(`text ${i}`);
      publishing.push(writer.publish('message', { text: `text ${i}` })); // what waits for a link is sent then
      if (i === 20) await Promise.all(publishing);
      if (i === 30) cluster.kill(victim);
    }
    await Promise.all(publishing);
    await expectTexts(followers, texts);
    const moved = followers.filter(({ connections }) => connections.length > 1);
    expect(moved.length).toBeGreaterThan(0);
    expect(moved.length).toBeLessThan(followers.length);

    // The next leader goes on with the same game.
    const before = scores.length;
    await until(() => scores.length >= before + 2, 'another node publishes the score');
    expect(losses).toEqual([]);
    expect(scores.map(({ offset }) => offset)).toEqual(scores.map((_, i) => scores[0]!.offset + i));
    const times = scores.map(({ score }) => elapsed(score));
    expect(times).toEqual([...times].sort((a, b) => a - b));
    expect(times.at(-1)! - times[0]!).toBeLessThanOrEqual(30 * (scores.length - 1));
    const next = await sendToRedis(cluster.redisPort, 'GET', 'realtime-demo:leader');
    expect(next).not.toBe('');
    expect(next).not.toBe(leader);
    await cluster.isBack(victim);
  });

  it('are admitted by the host that the browser has, and no other', async () => {
    const statusFor = async (origin: string): Promise<number> => {
      const socket = new WebSocket(`ws://localhost:${cluster.port}/realtime`, { origin });
      const status = await new Promise<number>((resolve) => {
        socket.once('open', () => resolve(101));
        socket.once('unexpected-response', (_request, response) => resolve(response.statusCode!));
        socket.on('error', () => undefined);
      });
      socket.terminate();
      return status;
    };
    expect(await statusFor(cluster.url)).toBe(101);
    expect(await statusFor('http://localhost:1')).toBe(403);
    expect(await statusFor('https://elsewhere.example')).toBe(403);
  });
});

describe('npm run start:cluster', () => {
  it('says which port is in use', async () => {
    const { code, output, port } = await Cluster.startInVain();
    expect(code).toBe(1);
    expect(output).toContain(`Port ${port} is in use.`);
  });

  it('ends everything on Ctrl-C, and leaves nothing', async () => {
    const { nodes, port, redisPort, directory } = cluster;
    expect(readdirSync(directory)).not.toEqual([]);
    expect(await cluster.interrupt()).toBe(0);
    for (const { pid } of nodes) expect(isAlive(pid)).toBe(false);
    for (const each of [port, redisPort, ...nodes.map((node) => node.port)]) expect(await listens(each)).toBe(false);
    expect(readdirSync(directory)).toEqual([]);
  });
});
