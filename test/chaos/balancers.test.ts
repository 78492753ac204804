import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { EventSource } from 'eventsource';
import type { RealtimeClient } from '../../lib/client/index.js';
import { openStream, refusedStream } from '../e2e/support/event-stream.js';
import { freePort, RedisServer, until } from '../support/redis-server.js';
import { followWithClient, followWithEventSource, type ClientFollower } from './support/followers.js';
import { Installation, untilFound, untilNone, type HandlerRun } from './support/installation.js';
import { DyingNode, haproxy, LoadBalancer, nginx, type LoadBalancerKind } from './support/load-balancer.js';

const NODES = 3;
const STREAM_MS = 50;
/** A node that died is believed to run what was sent to it for 30 s. */
const SETTLE_MS = 90_000;

const balancers: readonly LoadBalancerKind[] = [nginx, haproxy];

/** A response, as it came through a load balancer. */
interface Reply {
  readonly path: string;
  readonly status: number;
  /** Empty where no node answered. */
  readonly node: string;
}

/** Notes who answers what a peer asks. */
function recordingFetch(replies: Reply[]): typeof fetch {
  return async (input, init) => {
    const response = await fetch(input, init);
    const { pathname } = new URL(input instanceof Request ? input.url : input);
    const path = pathname.slice(pathname.lastIndexOf('/'));
    replies.push({ path, status: response.status, node: response.headers.get('x-node') ?? '' });
    return response;
  };
}

const nodesOf = (replies: readonly Reply[]): number => new Set(replies.map(({ node }) => node)).size;
/**
 * The last twelve replies, if each came from another node than the one before: what of a load balancer's turn is uneven
 * after a node has come back does not count.
 */
function turns(replies: readonly Reply[]): readonly Reply[] | undefined {
  const last = replies.slice(-12);
  const isRound = last.every(({ node }, i) => node !== last[i - 1]?.node);
  return last.length === 12 && isRound && nodesOf(last) === NODES ? last : undefined;
}

const refusals = (replies: readonly Reply[]): Reply[] => replies.filter(({ status }) => status >= 300);

describe('three nodes, behind a load balancer that gives each request to the next one', () => {
  let server: RedisServer;
  const ports: number[] = [];
  let installation: Installation;
  const proxies = new Map<LoadBalancerKind, LoadBalancer>();
  const sources: EventSource[] = [];
  let rounds = 0;

  beforeAll(async () => {
    server = await RedisServer.start();
    while (ports.length < NODES) ports.push(await freePort());
    installation = await Installation.start({ redis: { url: server.url }, nodes: NODES, ports });
    for (const kind of balancers) proxies.set(kind, await LoadBalancer.start(kind, ports));
  }, 180_000);

  afterEach(() => {
    for (const follower of installation.followers.splice(0)) follower.close();
    for (const source of sources.splice(0)) source.close();
  });

  afterAll(async () => {
    for (const proxy of proxies.values()) await proxy.dispose();
    await installation.dispose();
    await server.dispose();
  });

  const urlOf = (kind: LoadBalancerKind): string => proxies.get(kind)!.url;

  /** Three channels that are new. */
  function openChannels(): string[] {
    rounds += 1;
    return ['a', 'b', 'c'].map((name) => `feed.${name}${rounds}`);
  }

  async function followByPolls(
    kind: LoadBalancerKind,
    name: string,
    channels: readonly string[],
    replies: Reply[] = [],
  ): Promise<ClientFollower> {
    const options = { fetch: recordingFetch(replies), requestTimeoutMs: 120_000 };
    const who = `${name}, ${kind.name}`;
    const { ledger, followers } = installation;
    const follower = await followWithClient(who, urlOf(kind), 'long-polling', channels, ledger, options);
    followers.push(follower);
    return follower;
  }

  async function flows(channels: readonly string[]): Promise<void> {
    await Promise.all(channels.map((channel) => installation.flows(channel)));
  }

  /** Starts a node at its place; resolves when each load balancer gives it requests. */
  async function startNode(index: number): Promise<void> {
    await installation.startNode(index);
    const { name } = installation.nodes[index]!;
    for (const { origin } of proxies.values()) {
      await until(async () => (await fetch(origin)).headers.get('x-node') === name, `requests for ${name}`);
    }
  }

  /**
   * Each node is killed, and replaced by one that dies with every request, until it has done so with one of `method`;
   * then there is a node again.
   */
  async function replaceAll(channels: readonly string[], method: string, ask: () => Promise<void>): Promise<void> {
    const { ledger, nodes } = installation;
    for (let index = 0; index < NODES; index++) {
      ledger.during = `${nodes[index]!.name} is away`;
      await installation.killNode(index);
      await flows(channels);
      const dying = await DyingNode.start(ports[index]!);
      while (!dying.requests.some((line) => line.startsWith(method))) await ask();
      await flows(channels);
      await dying.dispose();
      await startNode(index);
      await flows(channels);
    }
    ledger.during = 'the end';
  }

  /** Everything came, once and in order. */
  async function expectAllDelivered(): Promise<void> {
    const { last } = await installation.stopStream();
    expect(await untilNone(() => installation.behind(last), SETTLE_MS)).toEqual([]);
    expect(installation.ledger.defects).toEqual([]);
    expect(installation.ledger.losses).toEqual([]);
  }

  describe.each(balancers)('$name', (kind) => {
    it('takes each request of a client over long polling to another node: nothing is lost, and nothing done twice', async () => {
      const replies: Reply[] = [];
      const channels = openChannels();
      const { client, connected } = await followByPolls(kind, 'long polling', channels, replies);
      expect(connected).toBe(1);
      let counted = 0;
      const count = async (): Promise<void> => {
        const label = `${kind.name} ${++counted}`;
        await expect(client.request('count', label)).resolves.toBe(label);
      };

      // While a poll waits, there is one request after another.
      replies.splice(0);
      while (!turns(replies)) await count();
      expect(replies.filter(({ path }) => path !== '/send').length).toBeLessThan(replies.length / 2);

      // While nothing is sent, there is one poll after another.
      await installation.startStream(channels, STREAM_MS);
      replies.splice(0);
      await untilFound(() => turns(replies), 'polls that go around', SETTLE_MS);
      expect(new Set(replies.map(({ path }) => path))).toEqual(new Set(['/poll']));

      await replaceAll(channels, 'POST', count);
      await expectAllDelivered();
      expect(refusals(replies)).toEqual([]);
      const labels = installation.runs().flatMap(({ event, label }) => (event === 'count' ? [label] : []));
      const mine = labels.filter((label) => label.startsWith(kind.name));
      expect(mine).toEqual(Array.from({ length: counted }, (_, i) => `${kind.name} ${i + 1}`));
      expect(client.state).toBe('open');
    }, 240_000);

    it('W8: takes a native EventSource over three channels to another node: its cursor goes on, and no refusal ends it', async () => {
      const replies: Reply[] = [];
      const url = urlOf(kind);
      const channels = openChannels();
      const record = recordingFetch(replies);
      const { ledger, followers } = installation;
      const follower = await followWithEventSource(`EventSource, ${kind.name}`, url, channels, ledger, record);
      followers.push(follower);
      await installation.startStream(channels, STREAM_MS);
      await replaceAll(channels, 'GET', async () =>
        (await openStream(`${url}/sse?channels=${channels.join(',')}`)).close(),
      );
      await expectAllDelivered();
      expect(refusals(replies)).toEqual([]);
      expect(nodesOf(replies)).toBeGreaterThan(1);
      expect(follower.connected).toBe(replies.length);
    }, 240_000);

    it('W8: passes refusals on: a status ends an EventSource, and it comes back where that helps', async () => {
      const url = urlOf(kind);
      const closed = `${url}/sse?channels=feed.x,closed.${kind.name},feed.y`;
      expect(await refusedStream(closed)).toMatchObject({
        status: 403,
        body: { error: { code: 'forbidden', details: { channel: `closed.${kind.name}` } } },
      });
      const refused = new EventSource(closed);
      sources.push(refused);
      const error = await new Promise<{ code?: number | undefined }>((resolve) => {
        refused.addEventListener('error', resolve);
      });
      expect([error.code, refused.readyState]).toEqual([403, EventSource.CLOSED]);

      const replies: Reply[] = [];
      const busy = new EventSource(`${url}/sse?channels=feed.x,busy.${kind.name},feed.y`, {
        fetch: recordingFetch(replies),
      });
      sources.push(busy);
      await new Promise((resolve) => busy.addEventListener('$open', resolve));
      // Each node that it came to told it to come back, once.
      const told = replies.slice(0, -1);
      expect(told.length).toBeGreaterThanOrEqual(1);
      expect(nodesOf(told)).toBe(told.length);
      expect(told.map(({ node }) => node)).toContain(replies.at(-1)!.node);
      expect(refusals(replies)).toEqual([]);
    }, 180_000);
  });

  /** Sends until a handler holds it at that node, or at any. */
  async function hold(client: RealtimeClient, event: string, name: string, node?: string): Promise<Held> {
    for (let n = 1; ; n++) {
      const label = `${event} ${name} ${n}`;
      const said = client.channel(`talk.${name}`).publish('said', label);
      let told = false;
      const answer = client.request(event, label).catch((error: unknown) => error);
      void Promise.race([said, answer]).then(() => (told = true));
      const run = await untilFound(() => installation.runs().find((each) => each.label === label), label, SETTLE_MS);
      if (node === undefined || run.node === node) return { client, run, said, answer, told: () => told };
      await installation.nodes.find((each) => each.name === run.node)!.ask('release');
      await answer;
    }
  }

  it('P8, D6.3: answers outcome_unknown for a handler whose node was killed, runs an idempotent one again, and publishes once', async () => {
    const channels = openChannels();
    const held: Held[] = [];
    for (const kind of balancers) {
      for (const event of ['hold', 'holdOnce']) {
        const { client } = await followByPolls(kind, event, channels);
        held.push(await hold(client, event, `${event}-${kind.name}`, held[0]?.run.node));
      }
    }
    expect(held.filter(({ told }) => told())).toEqual([]);
    await installation.startStream(channels, STREAM_MS);
    const index = installation.nodes.findIndex(({ name }) => name === held[0]!.run.node);
    await installation.killNode(index);
    await flows(channels);
    await startNode(index);

    for (const { client, run, said, answer } of held) {
      const { event, label, key } = run;
      const outcome = await answer;
      const runs = installation.runs().filter((each) => each.label === label);
      if (event === 'hold') {
        expect(outcome).toMatchObject({ code: 'outcome_unknown' });
        expect(runs).toEqual([run]);
      } else {
        expect(outcome).toEqual({ again: key });
        expect(runs).toEqual([run, { ...run, node: runs[1]!.node }]);
        expect(runs[1]!.node).not.toBe(run.node);
      }
      const position = await said;
      const { publications } = await client.channel(`talk.${label.split(' ')[1]!}`).history();
      const mine = publications.filter(({ data }) => data === label);
      expect(mine.map(({ offset }) => offset)).toEqual([Number(String(position).split('-')[1])]);
    }
    await expectAllDelivered();
  }, 240_000);
});

/** A handler that holds what it was sent, behind a publication of the same request. */
interface Held {
  readonly client: RealtimeClient;
  readonly run: HandlerRun;
  readonly said: Promise<unknown>;
  readonly answer: Promise<unknown>;
  /** Whether one of the two was told. */
  told(): boolean;
}
