import { Controller, Get, Param, UseGuards } from '@nestjs/common';
import { RealtimeService } from 'nestjs-realtime';
import { TokenGuard } from './token.guard.js';

@UseGuards(TokenGuard)
@Controller('connections')
export class ConnectionsController {
  constructor(private readonly realtime: RealtimeService) {}

  /** Which node serves a connection. Every node can tell: the registry is common to all. */
  @Get(':id')
  async find(@Param('id') id: string): Promise<{ node: string | null }> {
    const connections = await this.realtime.connections();
    return { node: connections.find((connection) => connection.id === id)?.node ?? null };
  }
}
