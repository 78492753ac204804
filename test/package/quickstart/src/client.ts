import { RealtimeClient } from 'nestjs-realtime/client';
import { WebSocket } from 'ws'; // not needed in browsers and from Node 22 on

const url = process.env.REALTIME_URL ?? 'http://localhost:3000/realtime';
const client = new RealtimeClient(url, { WebSocket });
const chat = client.channel<{ message: { text: string } }>('chat.lobby');

chat.on('message', (data) => console.log(`received: ${data.text}`));
chat.publish('message', { text: 'hello' }).catch(console.error);
