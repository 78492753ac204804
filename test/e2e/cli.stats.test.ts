import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { IncomingMessage } from 'node:http';
import { RealtimeModule, RealtimeService } from '../../lib/index.js';
import { prometheus } from '../../lib/prometheus.js';
import { runCommand } from './support/command-line.js';
import { startProxy, type HttpProxy } from './support/http-proxy.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

const PUBLISHED = 'realtime_publications per second';

describe.each(platforms)('the stats of the command line on $name', (platform) => {
  let nodes: RunningApp[];
  let balancer: HttpProxy | undefined;

  beforeEach(async () => {
    const imports = (): unknown[] => [
      RealtimeModule.forRoot({ channels: { news: {} }, metrics: { exporter: prometheus(), guards: [] } }),
    ];
    nodes = [];
    for (let n = 0; n < 2; n++) nodes.push(await startApp(platform, { imports: imports() as never }));
  });
  afterEach(async () => {
    balancer?.close();
    balancer = undefined;
    for (const node of nodes) await node.close();
  });

  const publish = async (node: number, count: number): Promise<void> => {
    for (let n = 0; n < count; n++) await nodes[node]!.app.get(RealtimeService).publish('news', 'n', n);
  };

  /** Runs `stats` through a balancer that gives each node every other request. */
  async function stats(
    args: readonly string[],
    look: (answer: IncomingMessage) => void | Promise<void> = () => undefined,
  ): ReturnType<typeof runCommand> {
    let asked = 0;
    balancer = await startProxy(
      () => nodes[asked++ % 2]!.url,
      (answer, response) => {
        void Promise.resolve(look(answer)).then(() =>
          answer.pipe(response.writeHead(answer.statusCode!, answer.headers)),
        );
      },
    );
    return runCommand(['stats', ...args, '--url', `${balancer.url}/realtime`]);
  }

  const rate = (out: string): number | undefined =>
    (JSON.parse(out) as { name: string; value: number }[]).find(({ name }) => name === PUBLISHED)?.value;

  it('compares two pages of one node, and divides by the time between them', async () => {
    await publish(0, 500);
    await fetch(`${nodes[0]!.url}/realtime/metrics`); // the first page is an older one
    const times: number[] = [];
    const nodeOf: unknown[] = [];
    const { code, out, err } = await stats(['--seconds', '1', '--json'], async ({ headers }) => {
      nodeOf.push(headers['realtime-node']);
      if (headers['realtime-node'] === nodeOf[0]) times.push(Number(headers['realtime-page-time']));
      if (nodeOf.length === 1) await publish(0, 10);
    });
    expect([code, err]).toEqual([0, '']);
    expect(new Set(nodeOf).size).toBe(2);
    expect(rate(out)).toBeCloseTo(10 / ((times.at(-1)! - times[0]!) / 1_000), 9);
  });

  it('gives no rates where the node does not answer again', async () => {
    let asked = 0;
    const { code, out, err } = await stats(['--seconds', '1'], ({ headers }) => {
      headers['realtime-node'] = `node-${asked++}`;
    });
    expect([code, out]).toEqual([1, '']);
    expect(err).toContain('node node-0 gave no second page in 100 requests (100 other nodes answered)');
  });

  it('gives no rates, but totals, where a page does not say whose it is', async () => {
    await publish(0, 3);
    const strip = ({ headers }: IncomingMessage): void => {
      delete headers['realtime-node'];
    };
    const { code, out, err } = await stats(['--seconds', '1'], strip);
    expect([code, out]).toEqual([1, '']);
    expect(err).toContain('does not say of which node and time its page is');
    balancer!.close();
    const once = await stats(['--once'], strip);
    expect(once).toMatchObject({ code: 0, out: expect.stringMatching(/publications_total .*news.* 3\n/), err: '' });
  });
});
