import { Controller, Get, ServiceUnavailableException } from '@nestjs/common';
import { type HubHealth, RealtimeService } from 'nestjs-realtime';

/** What probes ask: whether to restart this process, and whether to send peers here. */
@Controller('health')
export class HealthController {
  constructor(private readonly realtime: RealtimeService) {}

  @Get('live')
  live(): HubHealth {
    const health = this.realtime.health();
    if (health.status === 'down') throw new ServiceUnavailableException(health);
    return health;
  }

  @Get('ready')
  ready(): HubHealth {
    const health = this.realtime.health();
    if (!health.ready) throw new ServiceUnavailableException(health);
    return health;
  }
}
