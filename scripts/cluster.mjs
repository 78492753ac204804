// `npm run start:cluster`: two nodes of the sample behind nginx, on one Redis, until Ctrl-C. No root, no daemons; what
// they write is in a directory that is removed in the end.
//   PORT       where nginx listens, 3000 by default; 0 for any free port
//   REDIS_URL  a Redis that runs already; otherwise one is started
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { build } from './build.mjs';
import { needNginx } from './nginx.mjs';
import { needRedis } from './redis.mjs';
import { root } from './run.mjs';
import { freePort, isFree, Service } from './services.mjs';

const NODES = 2;
const CONFIG = path.join(root, 'sample/cluster/nginx.conf');
/** The ports that the configuration names, to be replaced. */
const CONFIG_PORTS = [3000, 3001, 3002];

/** One Ctrl-C may come twice, from the terminal and from npm. */
const SAME_SIGNAL_MS = 500;

const services = [];
let directory;
let endingSince;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, interrupted);
try {
  await start();
} catch (error) {
  if (endingSince === undefined) {
    console.error(error.message);
    await end(1);
  }
}

async function start() {
  const wanted = Number(process.env.PORT ?? CONFIG_PORTS[0]);
  if (wanted !== 0 && !(await isFree(wanted))) {
    throw new Error(`Port ${wanted} is in use. Set PORT to another one: PORT=${wanted + 10} npm run start:cluster`);
  }
  const nginx = await needNginx();
  const redis = process.env.REDIS_URL ? undefined : await needRedis();
  await build();
  directory = await mkdtemp(path.join(tmpdir(), 'realtime-cluster-'));
  await chmod(directory, 0o755); // where root starts nginx, its workers are somebody else

  const redisUrl = process.env.REDIS_URL || (await startRedis(redis));
  const port = wanted || (await freePort(0));
  const ports = await freePorts(port + 1, NODES);
  const nodes = ports.map((each, index) => nodeService(`node ${index + 1}`, each, redisUrl));
  await Promise.all(nodes.map((node) => node.start()));
  await nginxService(nginx, [port, ...ports]).then((service) => service.start());
  if (endingSince !== undefined) return;

  console.log(`nestjs-realtime demo, ${NODES} nodes behind nginx: http://localhost:${port}`);
  nodes.forEach(({ name, pid }, index) => console.log(`  ${name}: port ${ports[index]}, pid ${pid}`));
  console.log(`  Redis:  ${redisUrl}`);
  console.log(`End a node (kill -9 ${nodes[0].pid}) and its pages go on with the other; Ctrl-C ends everything.`);
}

async function startRedis(command) {
  const port = await freePort(0);
  const place = ['--port', String(port), '--bind', '127.0.0.1', '--dir', directory];
  const service = new Service('redis', {
    command,
    args: [...place, '--save', '', '--daemonize', 'no', '--loglevel', 'warning'],
    isUp: () => repliesToPing(port),
    hides: (line) => !/Fatal|Failed|Can't|Could not/.test(line),
  });
  services.push(service);
  await service.start();
  return `redis://127.0.0.1:${port}`;
}

function nodeService(name, port, redisUrl) {
  const service = new Service(name, {
    command: process.execPath,
    args: [path.join(root, 'dist-sample/main.js')],
    env: { PORT: String(port), REDIS_URL: redisUrl, TRUSTED_PROXIES: '127.0.0.1' },
    isUp: () => isServed(port),
    hides: (line) => line.startsWith('nestjs-realtime demo:'),
  });
  services.push(service);
  return service;
}

async function nginxService(command, ports) {
  const config = path.join(directory, 'nginx.conf');
  const text = await readFile(CONFIG, 'utf8');
  const replaced = text.replace(/\b(listen |127\.0\.0\.1:)(\d+)/g, (found, before, port) => {
    const index = CONFIG_PORTS.indexOf(Number(port));
    return index < 0 ? found : `${before}${ports[index]}`;
  });
  await writeFile(config, replaced);
  const service = new Service('nginx', {
    command,
    args: ['-p', directory, '-e', 'stderr', '-c', config, '-g', 'daemon off;'],
    isUp: () => isServed(ports[0]),
  });
  services.push(service);
  return service;
}

function interrupted() {
  if (endingSince === undefined) void end(0);
  else if (Date.now() - endingSince > SAME_SIGNAL_MS) process.exit(1); // who asks again does not want to wait
}

/** Ends everything; Redis last, so that nodes can leave it in order. */
async function end(code) {
  endingSince = Date.now();
  await Promise.all(services.filter(({ name }) => name !== 'redis').map((service) => service.stop()));
  await Promise.all(services.map((service) => service.stop()));
  if (directory) await rm(directory, { recursive: true, force: true });
  process.exit(code);
}

async function freePorts(from, count) {
  const ports = [];
  while (ports.length < count) ports.push(await freePort((ports.at(-1) ?? from - 1) + 1));
  return ports;
}

async function isServed(port) {
  const response = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(2_000) });
  await response.body?.cancel();
  return response.ok;
}

function repliesToPing(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    socket.setTimeout(1_000, () => socket.destroy());
    socket.once('data', (data) => {
      resolve(String(data).startsWith('+PONG'));
      socket.destroy();
    });
    socket.on('error', () => {});
    socket.once('close', () => resolve(false));
  });
}
