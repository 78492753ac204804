import { memoryBroker } from '../../lib/brokers/memory.broker.js';
import { describeTransport } from './transport.conformance.js';
import { longPolling } from './wires/long-polling.wire.js';
import { sse } from './wires/sse.wire.js';
import { sseWithPass } from './wires/sse-with-pass.wire.js';
import { websocket } from './wires/websocket.wire.js';

for (const wire of [websocket, sse, sseWithPass, longPolling]) describeTransport(wire, 'memory', () => memoryBroker());
