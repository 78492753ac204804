import { once } from 'node:events';
import { createServer, request, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface HttpProxy {
  readonly url: string;
  close(): void;
}

/** A proxy of plain requests, not of upgrades, on a free port; what it does to an answer is up to the test. The caller closes it. */
export async function startProxy(
  targetOf: () => string,
  pass: (answer: IncomingMessage, response: ServerResponse, path: string) => void,
): Promise<HttpProxy> {
  const server = createServer((incoming, response) => {
    const { method, url, headers } = incoming;
    const outgoing = request(`${targetOf()}${url}`, { method, headers }, (answer) => pass(answer, response, url!));
    outgoing.on('error', () => response.destroy());
    outgoing.on('upgrade', (_answer, socket) => {
      socket.destroy();
      response.destroy();
    });
    response.on('close', () => outgoing.destroy());
    incoming.pipe(outgoing);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
