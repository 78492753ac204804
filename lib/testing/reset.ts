import type { Socket } from 'node:net';

/**
 * Resets a connection, as a machine that has gone would. One that is being shut down is destroyed: Node cannot reset it
 * then, and would keep it, half closed, for ever.
 */
export function reset(socket: Socket): void {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}
