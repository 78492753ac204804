import { Inject, Injectable, Logger } from '@nestjs/common';
import { ExternalContextCreator, ModuleRef, SerializedGraph } from '@nestjs/core';
import type { Application, LeaveReason } from '../hub/application.js';
import type { Call } from '../hub/call.js';
import type { Connection } from '../hub/connection.js';
import type { ChannelMatch } from '../hub/definition.js';
import { ChannelGateways } from './channel-gateways.js';
import { ConnectionGuards } from './connection-guards.js';
import { GatewayApplication } from './gateway-application.js';
import { GatewayEndpoints } from './gateway-endpoints.js';
import { RESOLVED_OPTIONS, type ResolvedOptions } from './options.js';

/** The Nest application as the hub sees it: gateways for events, channel gateways for channels. */
@Injectable()
export class RealtimeApplication implements Application {
  readonly endpoints = new GatewayEndpoints();
  readonly guards: ConnectionGuards;
  readonly gateways: GatewayApplication;
  readonly channels: ChannelGateways;

  constructor(
    @Inject(RESOLVED_OPTIONS) options: ResolvedOptions,
    @Inject(ExternalContextCreator) creator: ExternalContextCreator,
    @Inject(ModuleRef) moduleRef: ModuleRef,
    @Inject(SerializedGraph) graph: SerializedGraph,
  ) {
    this.guards = new ConnectionGuards(options.connectionGuards, moduleRef);
    this.gateways = new GatewayApplication(this.endpoints, this.guards);
    this.channels = new ChannelGateways(creator, moduleRef, graph, new Logger('Realtime'));
  }

  admit(connection: Connection): Promise<void> {
    return this.gateways.admit(connection);
  }

  connected(connection: Connection): Promise<void> {
    return this.gateways.connected(connection);
  }

  resumed(connection: Connection): Promise<void> {
    return this.gateways.resumed(connection);
  }

  idempotent(connection: Connection, event: string): boolean {
    return this.endpoints.at(connection)?.idempotent.has(event) ?? false;
  }

  disconnected(connection: Connection): Promise<void> {
    return this.gateways.disconnected(connection);
  }

  handle(connection: Connection, data: unknown, call: Call): boolean {
    return this.gateways.handle(connection, data, call);
  }

  release(connection: Connection): void {
    this.gateways.release(connection);
  }

  subscribing(connection: Connection, match: ChannelMatch): Promise<unknown> {
    return this.channels.subscribing(connection, match);
  }

  publishing(connection: Connection, match: ChannelMatch, event: string, data: unknown): Promise<unknown> {
    return this.channels.publishing(connection, match, event, data);
  }

  unsubscribed(connection: Connection, match: ChannelMatch, reason: LeaveReason): Promise<void> {
    return this.channels.unsubscribed(connection, match, reason);
  }
}
