import type { Reception, RequestExchange, Transport } from '../hub/ports/transport.js';
import { RealtimeException } from '../protocol/errors.js';
import { answerJson, receiveJson } from './body.js';
import { readInbox, readText } from './link-wish.js';

const MAX_BODY_BYTES = 256 * 1024;
const MAX_FRAMES = 64;

/**
 * What peers send that have no socket: `POST {path}/send` with `{ pass, seq, frames }`, answered `{ seq, frames }`. A
 * number is run once, whichever node it comes to; repeated, it is answered the same. `inbox` acknowledges what came by a
 * stream, and `end: true` ends the connection: either may come alone.
 */
export class SendTransport implements Transport {
  readonly name = 'send';
  readonly subpath = 'send';
  readonly methods = ['POST'];

  open(): void {
    return;
  }

  async serve({ request, response }: RequestExchange, reception: Reception): Promise<void> {
    const body = await receiveJson(request, reception, MAX_BODY_BYTES);
    const { seq, frames, inbox, end } = body;
    const pass = readText('pass', body.pass);
    const acknowledged = inbox === undefined ? undefined : readInbox(inbox);
    const sends = seq !== undefined || frames !== undefined || (acknowledged === undefined && end === undefined);
    if (sends && (!Number.isSafeInteger(seq) || (seq as number) < 1)) {
      throw new RealtimeException('invalid', '"seq" is an integer from 1');
    }
    if (sends && (!Array.isArray(frames) || frames.length === 0 || frames.length > MAX_FRAMES)) {
      throw new RealtimeException('invalid', `"frames" is a list of 1 to ${MAX_FRAMES} frames`);
    }
    if (end !== undefined && (end !== true || sends)) {
      throw new RealtimeException('invalid', '"end" is true, and there are no frames');
    }
    const connection = await reception.resume(pass);
    if (acknowledged !== undefined) await connection.acknowledge(acknowledged);
    if (end === true) connection.leave();
    const answer = sends ? await connection.sendFrames(seq as number, frames as unknown[]) : undefined;
    answerJson(response, 200, [answer === undefined ? '{}' : `{"seq":${answer.seq},"frames":${answer.answers}}`]);
  }

  close(): void {
    return;
  }
}
