import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { BadRequestException, Injectable } from '@nestjs/common';
import {
  Ack,
  ConnectedSocket,
  MessageBody,
  SubscribeMessage,
  WebSocketGateway,
  WebSocketServer,
  WsException,
  type WsResponse,
} from '@nestjs/websockets';
import type { Socket } from 'node:net';
import { concat, EMPTY, finalize, from, map, NEVER, Observable, of, Subject, throwError, timer } from 'rxjs';
import type { Connection } from '../../lib/hub/connection.js';
import type { Endpoint } from '../../lib/hub/endpoint.js';
import { RealtimeModule } from '../../lib/nest/realtime.module.js';
import { connect, type Peer } from './support/gateway-peer.js';
import { platforms, startApp, type RunningApp } from './support/platforms.js';

/** Lets a test see inside of the gateway. */
@Injectable()
class Probe {
  readonly ticks = new Subject<unknown>();
  stopped: (() => void) | undefined;
  listened = 0;
}

@WebSocketGateway()
class AnswersGateway {
  @WebSocketServer() server!: Endpoint;

  constructor(private readonly probe: Probe) {}

  afterInit(server: Endpoint): void {
    this.initialised = server;
  }
  initialised: Endpoint | undefined;

  @SubscribeMessage('echo')
  echo(@MessageBody() data: unknown): unknown {
    return data;
  }

  @SubscribeMessage('field')
  field(@MessageBody('name') name: unknown): unknown {
    return name;
  }

  @SubscribeMessage('plain')
  plain(client: Connection, data: unknown): unknown {
    return { id: client.id, data };
  }

  @SubscribeMessage('nothing')
  nothing(): void {}

  @SubscribeMessage('later')
  async later(@MessageBody() data: unknown): Promise<unknown> {
    await new Promise((resolve) => setImmediate(resolve));
    return data;
  }

  @SubscribeMessage('response')
  response(@MessageBody() data: unknown): WsResponse {
    return { event: 'responded', data };
  }

  @SubscribeMessage('event-like')
  eventLike(): unknown {
    return { event: 'concert', data: 1, price: 3 };
  }

  @SubscribeMessage('ack')
  ack(@MessageBody() data: unknown, @Ack() reply: (data: unknown) => void): string {
    setImmediate(() => {
      reply(data);
      reply('a second time');
    });
    return 'not the answer';
  }

  @SubscribeMessage('ack-and-event')
  ackAndEvent(@Ack() reply: (data: unknown) => void): WsResponse {
    reply(1);
    return { event: 'also', data: 2 };
  }

  @SubscribeMessage('plain-ack')
  plainAck(_client: Connection, data: unknown, reply: (data: unknown) => void): void {
    reply(data);
  }

  @SubscribeMessage('cycle')
  cycle(): unknown {
    const data: Record<string, unknown> = {};
    data.data = data;
    return data;
  }

  @SubscribeMessage('of-one')
  ofOne(): Observable<number> {
    return of(1);
  }

  @SubscribeMessage('from-promise')
  fromPromise(): Observable<number> {
    return from(Promise.resolve(1));
  }

  @SubscribeMessage('of-three')
  ofThree(): Observable<number> {
    return of(1, 2, 3);
  }

  @SubscribeMessage('of-none')
  ofNone(): Observable<never> {
    return EMPTY;
  }

  @SubscribeMessage('one-and-later-end')
  oneAndLaterEnd(): Observable<number> {
    return concat(of(1), timer(1).pipe(map(() => 2)));
  }

  @SubscribeMessage('responses')
  responses(): Observable<WsResponse<number>> {
    return from([1, 2]).pipe(map((data) => ({ event: 'number', data })));
  }

  @SubscribeMessage('value-then-error')
  valueThenError(): Observable<number> {
    return concat(
      of(1),
      throwError(() => new WsException('no more')),
    );
  }

  @SubscribeMessage('observable-error')
  observableError(): Observable<number> {
    return throwError(() => new BadRequestException('wrong'));
  }

  @SubscribeMessage('ticks')
  ticks(): Observable<unknown> {
    this.probe.listened++;
    return this.probe.ticks.pipe(finalize(() => this.probe.stopped?.()));
  }

  @SubscribeMessage('never')
  never(): Observable<never> {
    return NEVER;
  }

  @SubscribeMessage('send')
  send(@ConnectedSocket() client: Connection): void {
    client.send(JSON.stringify({ event: 'sent', data: client.readyState }));
  }

  @SubscribeMessage('everyone')
  everyone(): void {
    this.server.clients.forEach((client) => {
      if (client.readyState === client.OPEN) client.send('"to everyone"');
    });
    this.server.emit('all', { n: this.server.clients.size });
  }

  @SubscribeMessage('same-server')
  sameServer(): boolean {
    return this.server === this.initialised;
  }

  @SubscribeMessage('listen')
  listen(@ConnectedSocket() client: Connection): void {
    client.on('message', (bytes: Buffer) => client.send(JSON.stringify({ event: 'heard', data: bytes.toString() })));
  }
}

describe.each(platforms)('answers of gateways on $name', (platform) => {
  let running: RunningApp;
  let peer: Peer;
  let probe: Probe;

  beforeEach(async () => {
    running = await startApp(platform, { imports: [RealtimeModule.forRoot()], providers: [AnswersGateway, Probe] });
    probe = running.app.get(Probe);
    peer = await connect(running);
  });

  afterEach(() => running.close());

  it.each<[event: string, data: unknown, answer: unknown]>([
    ['echo', { deep: [1, null] }, { deep: [1, null] }],
    ['echo', null, null],
    ['echo', 0, 0],
    ['field', { name: 'Ada' }, 'Ada'],
    ['field', undefined, null],
    ['nothing', 1, null],
    ['later', 'x', 'x'],
    ['response', 5, 5],
    ['event-like', 0, { event: 'concert', data: 1, price: 3 }],
    ['ack', [7], [7]],
    ['plain-ack', 'p', 'p'],
    ['of-one', 0, 1],
    ['from-promise', 0, 1],
    ['of-none', 0, null],
  ])('answers %s with %j once, with its id', async (event, data, answer) => {
    expect(await peer.request(event, data, 7)).toEqual({ id: 7, data: answer });
    expect(await peer.settle()).toEqual([]);
  });

  it('keeps text ids', async () => {
    expect(await peer.request('echo', 1, 'abc')).toEqual({ id: 'abc', data: 1 });
  });

  it('passes client and data to handlers without parameter decorators', async () => {
    const answer = await peer.request('plain', 'd', 1);
    expect(answer).toEqual({ id: 1, data: { id: expect.any(String), data: 'd' } });
  });

  it.each<[event: string, data: unknown, frames: unknown[]]>([
    ['echo', { a: 1 }, [{ a: 1 }]],
    ['echo', null, []],
    ['nothing', 1, []],
    ['response', 5, [{ event: 'responded', data: 5 }]],
    ['of-three', 0, [1, 2, 3]],
    [
      'responses',
      0,
      [
        { event: 'number', data: 1 },
        { event: 'number', data: 2 },
      ],
    ],
    ['send', 0, [{ event: 'sent', data: 1 }]],
  ])('sends for %s without id what platform-ws would', async (event, data, frames) => {
    peer.send({ event, data });
    expect(await peer.settle()).toEqual(frames);
  });

  it.each<[event: string, values: unknown[]]>([
    ['of-three', [1, 2, 3]],
    ['one-and-later-end', [1, 2]],
    ['responses', [1, 2]],
  ])('answers %s as a stream that ends', async (event, values) => {
    peer.send({ id: 3, event });
    for (const data of values) expect(await peer.next()).toEqual({ id: 3, data, more: true });
    expect(await peer.next()).toEqual({ id: 3, done: true });
  });

  it('tells the error of an observable after the value before it', async () => {
    expect(await peer.request('value-then-error', 0, 4)).toEqual({ id: 4, data: 1, more: true });
    expect(await peer.next()).toEqual({ id: 4, error: { code: 'rejected', message: 'no more' } });
    expect(await peer.settle()).toEqual([]);
  });

  it('tells the error of an observable without values', async () => {
    expect(await peer.request('observable-error', 0, 4)).toEqual({
      id: 4,
      error: { code: 'invalid', message: 'wrong' },
    });
  });

  it('ends a stream that the peer cancels, and unsubscribes', async () => {
    const stopped = new Promise<void>((resolve) => (probe.stopped = resolve));
    peer.send({ id: 1, event: 'ticks' });
    await peer.settle();
    probe.ticks.next('a');
    expect(await peer.next()).toEqual({ id: 1, data: 'a', more: true });
    peer.send({ id: 2, event: '$cancel', data: { id: 1 } });
    expect(await peer.next()).toEqual({ id: 1, done: true });
    expect(await peer.next()).toEqual({ id: 2, data: null });
    await stopped;
    probe.ticks.next('b');
    expect(await peer.settle()).toEqual([]);
  });

  it('ends a stream that is cancelled in the same breath in which it is asked for', async () => {
    const stopped = new Promise<void>((resolve) => (probe.stopped = resolve));
    const { _socket: wire } = peer.socket as unknown as { _socket: Socket };
    wire.cork();
    peer.send({ id: 1, event: 'ticks' });
    peer.send({ id: 2, event: '$cancel', data: { id: 1 } });
    peer.send({ id: 3, event: 'later', data: 'x' });
    peer.send({ id: 4, event: '$cancel', data: { id: 3 } });
    wire.uncork();
    await stopped;
    expect(probe.ticks.observed).toBe(false);
    const frames = [...(await peer.settle()), ...(await peer.settle())];
    expect(frames).toHaveLength(4);
    expect(frames).toEqual(
      expect.arrayContaining([
        { id: 1, done: true },
        { id: 2, data: null },
        { id: 3, data: 'x' },
        { id: 4, data: null },
      ]),
    );
  });

  it('unsubscribes from streams when the peer leaves', async () => {
    const stopped = new Promise<void>((resolve) => (probe.stopped = resolve));
    peer.send({ id: 1, event: 'ticks' });
    await peer.settle();
    expect(probe.ticks.observed).toBe(true);
    await peer.close();
    await stopped;
    expect(probe.ticks.observed).toBe(false);
  });

  it('sends the event that a handler with @Ack() returns besides its answer', async () => {
    peer.send({ id: 1, event: 'ack-and-event' });
    expect(await peer.settle()).toEqual([
      { id: 1, data: 1 },
      { event: 'also', data: 2 },
    ]);
  });

  it('answers internal for what JSON cannot hold', async () => {
    expect(await peer.request('cycle', 0, 1)).toEqual({
      id: 1,
      error: { code: 'internal', message: 'Internal server error' },
    });
  });

  it('answers unknown_event, with and without id', async () => {
    expect(await peer.request('missing', 0, 1)).toMatchObject({ id: 1, error: { code: 'unknown_event' } });
    peer.send({ event: 'missing' });
    expect(await peer.next()).toMatchObject({ event: 'exception', data: { status: 'error', code: 'unknown_event' } });
  });

  it('gives one endpoint to afterInit and @WebSocketServer', async () => {
    expect(await peer.request('same-server', 0, 1)).toEqual({ id: 1, data: true });
  });

  it('serves code that walks server.clients and calls send', async () => {
    const other = await connect(running);
    peer.send({ event: 'everyone' });
    expect(await other.next()).toBe('to everyone');
    expect(await other.next()).toEqual({ event: 'all', data: { n: 2 } });
    await other.close();
  });

  it('serves code that listens to messages itself', async () => {
    peer.send({ event: 'listen' });
    await peer.settle();
    peer.send('not JSON at all');
    expect(await peer.next()).toEqual({ event: 'heard', data: 'not JSON at all' });
  });
});
