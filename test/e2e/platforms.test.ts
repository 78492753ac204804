import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable } from '@nestjs/common';
import { platforms, startApp, type RunningApp } from './support/platforms.js';
import { nestMajor } from './support/nest-version.js';

@Injectable()
class Greeter {
  greet(): string {
    return `hello from Nest ${String(nestMajor)}`;
  }
}

@Controller('greeting')
class GreetingController {
  // Injected by its type alone: fails when the compiler emits no decorator metadata.
  constructor(private readonly greeter: Greeter) {}

  @Get()
  greeting(): { text: string } {
    return { text: this.greeter.greet() };
  }
}

describe.each(platforms)('a plain application on $name', (platform) => {
  let running: RunningApp | undefined;

  afterEach(async () => {
    await running?.close();
    running = undefined;
  });

  it('answers with what dependency injection gave its controller', async () => {
    running = await startApp(platform, { controllers: [GreetingController], providers: [Greeter] });

    const response = await fetch(`${running.url}/greeting`);

    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ text: `hello from Nest ${String(nestMajor)}` });
  });
});
