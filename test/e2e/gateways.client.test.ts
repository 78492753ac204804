import { afterEach, describe, expect, it } from '@jest/globals';
import { ConnectedSocket, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { RealtimeModule, type Connection } from '../../lib/index.js';
import { connect, type Peer } from './support/gateway-peer.js';
import { platforms, startApp } from './support/platforms.js';

type Act = (client: Connection) => unknown;

@WebSocketGateway()
class ActingGateway {
  /** What the next event does. */
  act: Act = () => undefined;

  @SubscribeMessage('act')
  run(@ConnectedSocket() client: Connection): unknown {
    return this.act(client);
  }
}

describe.each(platforms)('the client of a gateway on $name', (platform) => {
  let dispose: (() => Promise<void>)[] = [];
  let errors: unknown[][] = [];
  let peer: Peer;
  afterEach(async () => {
    for (const end of dispose.reverse()) await end();
    dispose = [];
    errors = [];
  });

  /** Connects a peer; the returned function has the gateway do something with it. */
  async function start(): Promise<(act: Act) => Promise<any>> {
    const running = await startApp(
      platform,
      { imports: [RealtimeModule.forRoot()], providers: [ActingGateway] },
      (app) =>
        app.useLogger({
          log: () => undefined,
          warn: () => undefined,
          error: (...told: unknown[]) => errors.push(told),
        }),
    );
    dispose.push(running.close);
    peer = await connect(running);
    return async (act) => {
      running.app.get(ActingGateway).act = act;
      return (await peer.request('act')).data;
    };
  }

  it('calls a listener of once() a single time, and not at all after off()', async () => {
    const act = await start();
    const seen: string[] = [];
    const once = (): void => void seen.push('once');
    const removed = (): void => void seen.push('removed');
    const kept = (bytes: Buffer): void => void seen.push(JSON.parse(bytes.toString()).event);
    await act((client) => {
      client.once('message', once).once('message', removed).on('message', kept);
      client.off('message', removed);
    });
    await act(() => undefined);
    await act((client) => client.off('message', kept) && null);
    await act(() => undefined);
    expect(seen).toEqual(['once', 'act', 'act']);
  });

  it('gives what listeners throw to those of `error`, and logs it where there are none', async () => {
    const act = await start();
    await act((client) => {
      client.on('message', () => {
        throw new Error('a broken listener');
      });
    });
    await act(() => undefined);
    expect(errors).toEqual([
      ["A connection's listener to 'message' failed", expect.stringContaining('a broken listener'), 'Realtime'],
    ]);
    const heard: unknown[] = [];
    await act((client) => {
      client.on('error', (error: Error) => heard.push(error.message));
    });
    await act(() => undefined);
    expect(heard).toEqual(['a broken listener']);
    expect(errors).toHaveLength(2); // the frame that brought the listener came before it

    await act((client) => {
      client.on('error', () => {
        throw new Error('a broken listener to errors');
      });
      client.on('close', () => {
        throw new Error('a broken end');
      });
    });
    await peer.close();
    for (const end of dispose.splice(0)) await end();
    expect(errors.slice(2)).toEqual([
      ["A connection's listener to 'error' failed", expect.stringContaining('listener to errors'), 'Realtime'],
    ]);
    expect(heard).toEqual(['a broken listener', 'a broken listener', 'a broken end']);
  });

  it('sends text and refuses bytes with an error that says why', async () => {
    const act = await start();
    const messages = await act((client) =>
      [Buffer.from('bytes'), new Uint8Array(1), { a: 1 }, undefined].map((data) => {
        try {
          client.send(data as never);
        } catch (error) {
          return error instanceof TypeError && error.message;
        }
        return 'sent';
      }),
    );
    expect(new Set(messages)).toEqual(new Set(['send() takes a string: frames are text on every wire']));
    await act((client) => void setImmediate(() => client.send('any text')));
    expect(await peer.next()).toBe('any text');
  });
});
