import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** Who waits for the end of a socket that their responses don't have yet. */
const queued = new WeakMap<Socket, Set<() => void>>();

type Pair = Readonly<{ request: IncomingMessage; response: ServerResponse }>;

/**
 * Calls back once, when a response was sent or its peer is gone. A response that is queued behind an earlier one of the
 * same connection is not told by Node that the socket died: the socket is watched for it, by one listener for all.
 */
export function whenOver({ request, response }: Pair, act: () => void): void {
  const waiting = isQueued({ request, response }) ? waitingFor(request.socket) : undefined;
  const over = (): void => {
    waiting?.delete(over);
    response.off('close', over);
    act();
  };
  waiting?.add(over);
  response.once('close', over);
}

/** Destroys what carries a response: of HTTP/2 the stream alone; of a queued one the socket that it waits for. */
export function destroyResponse({ request, response }: Pair): void {
  const { stream } = response as { stream?: { destroy(): void } };
  if (stream !== undefined) stream.destroy();
  else if (isQueued({ request, response })) request.socket.destroy();
  else response.destroy();
}

/** A response that does not wait for the request's body, which may take for ever to come: of HTTP/1 it ends the connection. */
export function leaveBody(response: ServerResponse): void {
  const { httpVersionMajor, headers } = response.req;
  const bringsBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
  if (httpVersionMajor === 1 && bringsBody) response.setHeader('Connection', 'close');
}

function isQueued({ request, response }: Pair): boolean {
  return request.httpVersionMajor === 1 && response.socket === null;
}

function waitingFor(socket: Socket): Set<() => void> {
  let waiting = queued.get(socket);
  if (waiting === undefined) {
    const all = new Set<() => void>();
    queued.set(socket, (waiting = all));
    socket.once('close', () => {
      for (const over of all) over();
    });
  }
  return waiting;
}
