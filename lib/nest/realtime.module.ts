import {
  ConfigurableModuleBuilder,
  Inject,
  Logger,
  Module,
  type BeforeApplicationShutdown,
  type DynamicModule,
  type HttpServer,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  type OnModuleInit,
} from '@nestjs/common';
import { ApplicationConfig, HttpAdapterHost, ModuleRef, ModulesContainer } from '@nestjs/core';
import { Hub } from '../hub/hub.js';
import type { Log } from '../hub/log.js';
import type { Broker } from '../hub/ports/broker.js';
import { systemClock, type Clock } from '../hub/ports/clock.js';
import type { MetricsSession } from '../hub/ports/metrics.js';
import { resolveSettings, type Mistake } from '../hub/settings.js';
import { statsOf } from '../hub/stats.js';
import { AdminRoutes } from './admin.routes.js';
import { Auditor } from './auditor.js';
import { CHANNEL_GATEWAY } from './channel.decorators.js';
import { drainFirst } from './drain-first.js';
import { findGatewayMistakes } from './gateway-checks.js';
import { HttpServers } from './http-servers.js';
import { MetricsRoute } from './metrics.route.js';
import {
  bootError,
  REALTIME_BROKER,
  REALTIME_CLOCK,
  REALTIME_OPTIONS,
  RESOLVED_OPTIONS,
  resolveOptions,
  type RealtimeModuleOptions,
  type ResolvedOptions,
} from './options.js';
import { findProvidedClasses } from './provided-classes.js';
import { findForeignAdapter, keepAdapter, RealtimeAdapter } from './realtime.adapter.js';
import { RealtimeApplication } from './realtime.application.js';
import { RealtimeService } from './realtime.service.js';

const { ConfigurableModuleClass } = new ConfigurableModuleBuilder<RealtimeModuleOptions>({
  optionsInjectionToken: REALTIME_OPTIONS,
})
  .setClassMethodName('forRoot')
  .setFactoryMethodName('createRealtimeOptions')
  .setExtras({ isGlobal: true }, (definition, { isGlobal }) => ({ ...definition, global: isGlobal }))
  .build();

/**
 * Real-time for a Nest application: import it once, with `forRoot(options)` or `forRootAsync({ imports, inject,
 * useFactory | useClass | useExisting })`. It installs its WebSocket adapter and its HTTP endpoints by itself, and is
 * global unless `isGlobal: false` is given.
 */
@Module({
  providers: [
    // Optional: where the bare class is imported there are none, and the check says what to do.
    {
      provide: RESOLVED_OPTIONS,
      inject: [{ token: REALTIME_OPTIONS, optional: true }, REALTIME_CLOCK],
      useFactory: resolveOptions,
    },
    { provide: REALTIME_CLOCK, useValue: systemClock },
    { provide: REALTIME_BROKER, inject: [RESOLVED_OPTIONS], useFactory: ({ broker }: ResolvedOptions) => broker },
    RealtimeApplication,
    {
      provide: Hub,
      inject: [RESOLVED_OPTIONS, REALTIME_BROKER, REALTIME_CLOCK, RealtimeApplication],
      useFactory: async (
        options: ResolvedOptions,
        broker: Broker,
        clock: Clock,
        application: RealtimeApplication,
      ): Promise<Hub> => {
        const hub = new Hub(resolveSettings({ ...options, broker, clock, log: nestLog() }), application);
        await hub.open();
        return hub;
      },
    },
    Auditor,
    RealtimeService,
  ],
  exports: [RealtimeService, Hub, REALTIME_BROKER],
})
export class RealtimeModule
  extends ConfigurableModuleClass
  implements OnModuleInit, OnApplicationBootstrap, BeforeApplicationShutdown, OnApplicationShutdown
{
  readonly #servers: HttpServers;
  readonly #adapter: RealtimeAdapter;
  readonly #metrics: MetricsSession | undefined;
  readonly #route: MetricsRoute | undefined;
  readonly #admin: AdminRoutes | undefined;
  /** What is wrong with the channel gateways; told with all else as the module starts. */
  readonly #mistakes: Mistake[] = [];

  /** Leaves out options that all have defaults: `forRoot()` serves the declared channels to everybody. */
  static override forRoot(options: Parameters<typeof ConfigurableModuleClass.forRoot>[0] = {}): DynamicModule {
    return super.forRoot(options);
  }

  constructor(
    @Inject(RESOLVED_OPTIONS) private readonly options: ResolvedOptions,
    @Inject(Hub) private readonly hub: Hub,
    @Inject(RealtimeApplication) private readonly application: RealtimeApplication,
    @Inject(Auditor) private readonly auditor: Auditor,
    @Inject(ModulesContainer) private readonly modules: ModulesContainer,
    @Inject(ApplicationConfig) private readonly config: ApplicationConfig,
    @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
    @Inject(ModuleRef) moduleRef: ModuleRef,
  ) {
    super();
    const second = findSecondModule(modules);
    if (second.length > 0) {
      hub.close().catch(() => undefined); // no hook of ours will run
      throw bootError('RealtimeModule cannot start', second);
    }
    application.channels.explore(modules, hub.settings.declarations, options.channels ?? {}, this.#mistakes);
    hub.endpoint(options.path);
    const { metrics } = options;
    this.#metrics = metrics?.exporter.open(() => statsOf(hub));
    if (metrics?.guards !== undefined)
      this.#route = new MetricsRoute(this.#metrics!, metrics.guards, moduleRef, options, hub);
    if (options.admin !== undefined) this.#admin = new AdminRoutes(hub, auditor, options.admin, moduleRef, options);
    const routes = [...(this.#route === undefined ? [] : [this.#route]), ...(this.#admin?.routes ?? [])];
    this.#servers = new HttpServers(hub, options, routes);
    this.#adapter = new RealtimeAdapter({
      hub,
      options,
      endpoints: application.endpoints,
      config,
      modules,
      host,
      dispose: () => this.#servers.close(),
    });
    application.gateways.attach({ adapter: this.#adapter, touch: (connection) => hub.touch(connection) });
    config.setIoAdapter(this.#adapter);
  }

  async onModuleInit(): Promise<void> {
    const mistakes = this.#mistakes;
    findProvidedClasses(this.modules, CHANNEL_GATEWAY, mistakes); // once more: factories may have been slower than we
    mistakes.push(...findGatewayMistakes(this.modules, this.options.path));
    mistakes.push(...findForeignAdapter(this.config, this.#adapter));
    if (mistakes.length > 0) throw bootError('RealtimeModule cannot start', mistakes);
    keepAdapter(this.config);
    this.#adapter.bindInert();
    await this.application.guards.open();
    await this.#route?.prepare();
    await this.#admin?.prepare();
    const patterns = this.hub.settings.declarations.all.map(({ pattern }) => pattern);
    const transports = this.options.transports.map(({ name }) => name);
    this.hub.meter.know(this.application.endpoints.events(), patterns, transports);
    const adapter = this.host.httpAdapter as HttpServer | null | undefined;
    if (servesHttp(adapter)) this.#servers.mount(adapter);
  }

  async onApplicationBootstrap(): Promise<void> {
    drainFirst(this.modules, this.hub);
    await this.#servers.listen();
    await this.hub.accept(this.#servers.serving);
    this.auditor.started(this.#servers);
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.hub.drain();
    await this.#servers.close();
    await this.#admin?.close();
  }

  async onApplicationShutdown(): Promise<void> {
    this.#metrics?.close();
    await this.hub.close();
  }
}

function findSecondModule(modules: ModulesContainer): Mistake[] {
  const count = [...modules.values()].filter(({ metatype }) => metatype === RealtimeModule).length;
  if (count <= 1) return [];
  return [
    {
      path: 'RealtimeModule',
      message: `is configured ${count} times; call forRoot or forRootAsync once, in the root module`,
    },
  ];
}

/** Whether an adapter has a server that requests can come to: a worker has none, nor has a test without an application. */
function servesHttp(adapter: HttpServer | null | undefined): adapter is HttpServer {
  const server = adapter?.getHttpServer?.() as { listeners?: unknown } | undefined;
  return typeof server?.listeners === 'function';
}

function nestLog(): Log {
  const logger = new Logger('Realtime');
  return {
    warn: (message) => logger.warn(message),
    error: (message, error) => logger.error(message, error instanceof Error ? error.stack : undefined),
  };
}
