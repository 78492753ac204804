import { encodeChannelEvent, encodePublication, encodeSkipped } from '../protocol/encode.js';
import type { Codec, Run } from './ports/link.js';

type ChannelName = Pick<Run, 'channel' | 'channelJson'>;

/** Frames as elements of a JSON array; several are separated by commas. */
class JsonCodec implements Codec {
  readonly shared = true;

  frame(text: string): Buffer {
    return Buffer.from(text);
  }

  run({ channelJson, items }: Run): Buffer {
    const frames = items.map(({ event, data, offset, tag }) => {
      return encodePublication(channelJson, JSON.stringify(event), data, offset, tag);
    });
    return Buffer.from(frames.join(','));
  }

  skipped({ channelJson }: ChannelName, skipped: number, offset: number, tag: string): Buffer {
    return this.frame(encodeSkipped(channelJson, skipped, offset, tag));
  }

  channelEvent({ channelJson }: ChannelName, event: '$lost' | '$unsubscribed' | '$presence', data: unknown): Buffer {
    return this.frame(encodeChannelEvent(channelJson, event, data));
  }
}

export const JSON_CODEC: Codec = new JsonCodec();
