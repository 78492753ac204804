import cluster from 'node:cluster';
import type { Server } from 'node:http';
import { Inject, Injectable } from '@nestjs/common';
import { HttpAdapterHost, ModulesContainer } from '@nestjs/core';
import { Hub } from '../hub/hub.js';
import { audit, describeFinding, type AuditFinding } from './audit.js';
import { eventsOf, GATEWAY, GUARDS, metadataList, methodsOf } from './gateway-metadata.js';
import type { HttpServers } from './http-servers.js';
import { RESOLVED_OPTIONS, type ResolvedOptions } from './options.js';
import { findProvidedClasses } from './provided-classes.js';

/** Looks at the application for the audit. */
@Injectable()
export class Auditor {
  /** Whether anybody has asked for the health. */
  watched = false;
  #servers: HttpServers | undefined;

  constructor(
    @Inject(RESOLVED_OPTIONS) private readonly options: ResolvedOptions,
    @Inject(Hub) private readonly hub: Hub,
    @Inject(ModulesContainer) private readonly modules: ModulesContainer,
    @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
  ) {}

  /** The application has started: logs what falls short, as far as a start can tell. */
  started(servers: HttpServers): void {
    this.#servers = servers;
    for (const finding of this.findings()) {
      if (finding.check !== 'monitoring') this.hub.log.warn(describeFinding(finding));
    }
  }

  findings(): AuditFinding[] {
    const gateways = findProvidedClasses(this.modules, GATEWAY, []).map(({ metatype }) => metatype);
    const server = this.host.httpAdapter?.getHttpServer?.() as Partial<Server> | undefined;
    return audit({
      options: this.options,
      settings: this.hub.settings,
      serving: this.#servers?.serving ?? false,
      handlers: gateways.some((gateway) => eventsOf(gateway).length > 0),
      guarded: gateways.some((gateway) => {
        const hook = methodsOf(gateway).get('handleConnection');
        return hook !== undefined && metadataList(GUARDS, hook).length > 0;
      }),
      serverTimeoutMs: server?.timeout ?? 0,
      untrustedProxy: this.#servers?.untrustedProxy ?? false,
      watched: this.watched,
      heedsSigterm: process.listenerCount('SIGTERM') > 0,
      replica: signOfReplicas(),
    });
  }
}

/** What pm2, Kubernetes, ECS and Cloud Run tell their processes. */
const REPLICA_VARIABLES = [
  'NODE_APP_INSTANCE',
  'KUBERNETES_SERVICE_HOST',
  'ECS_CONTAINER_METADATA_URI_V4',
  'K_SERVICE',
];

function signOfReplicas(): string | undefined {
  if (cluster.isWorker) return 'a worker of node:cluster';
  return REPLICA_VARIABLES.find((name) => process.env[name] !== undefined);
}
