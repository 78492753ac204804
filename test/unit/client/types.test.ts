import { expect, test } from '@jest/globals';
import { RealtimeClient, type Lost, type Member, type Publication } from '../../../lib/client/index.js';
import { FakeTransport } from './fake-transport.js';

interface ChatEvents {
  message: { text: string };
  typing: string;
}

/** Never runs: each line must compile, or must not, as its comment says. */
async function typings(client: RealtimeClient): Promise<void> {
  const chat = client.channel<ChatEvents>('chat');
  chat.on('message', (data, publication) => {
    const text: string = data.text;
    const typed: Publication<'message', { text: string }> = publication;
    // @ts-expect-error -- the data has no such field
    expect(data.nothing);
    return [text, typed];
  });
  // @ts-expect-error -- no such event
  chat.on('massage', () => {});
  chat.on('lost', (lost: Lost) => lost.reason);
  chat.on('presence', (members: readonly Member[]) => members);
  // @ts-expect-error -- a signal has no publication
  chat.on('lost', (_lost, _publication) => {});
  chat.on('*', (data, publication) => {
    const either: string | { text: string } = data;
    if (publication.event === 'typing') publication.data.toUpperCase();
    return either;
  });
  await chat.publish('message', { text: 'hi' });
  // @ts-expect-error -- the data of another event
  await chat.publish('message', 'hi');
  // @ts-expect-error -- no such event
  await chat.publish('massage', { text: 'hi' });
  for await (const publication of chat) {
    if (publication.event === 'message') publication.data.text.trim();
    // @ts-expect-error -- not known which event it is
    expect(publication.data.text);
  }
  const { publications } = await chat.history({ limit: 1 });
  publications[0]?.event satisfies 'message' | 'typing' | undefined;

  const untyped = client.channel('anything');
  untyped.on('whatever', (data: unknown) => data);
  await untyped.publish('whatever', 1);

  const answer: number = await client.request<number>('sum', [1, 2]);
  for await (const value of client.requestStream<string>('ticks')) value.trim();
  client.on('state', (state, { delayMs }) => [state satisfies string, delayMs?.toFixed()]);
  client.on('event', (event, data: unknown) => [event.trim(), data, answer]);
  // @ts-expect-error -- events of the application come by 'event'
  client.on('notice', () => {});
  // @ts-expect-error -- no such transport
  new RealtimeClient('https://example.com', { transports: ['carrier-pigeon'] });
}

test('the types hold', () => {
  expect(typings).toBeInstanceOf(Function);
  expect(new RealtimeClient('https://example.com', { transports: [new FakeTransport()] }).state).toBe('closed');
});
