// Nest's own @Sse, as its documentation has it: one Subject that all streams share.
import 'reflect-metadata';
import { Controller, Module, Sse } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Subject } from 'rxjs';
import { serve } from './serve.mjs';

const messages = new Subject();

class EventsController {
  events() {
    return messages;
  }
}
Controller()(EventsController);
Sse('events')(
  EventsController.prototype,
  'events',
  Object.getOwnPropertyDescriptor(EventsController.prototype, 'events'),
);

class AppModule {}
Module({ controllers: [EventsController] })(AppModule);

const app = await NestFactory.create(AppModule, { logger: ['error', 'fatal'] });
await app.listen(0, '127.0.0.1');

let id = 0;
serve(app.getHttpServer().address().port, (data) => {
  messages.next({ type: 'message', id: String(++id), data: JSON.stringify(data) });
});
