import type { CanActivate, ExecutionContext } from '@nestjs/common';
import { isObservable, lastValueFrom } from 'rxjs';

/** What a guard says, whatever way it says it. An observable without a value is no. */
export async function askGuard(guard: CanActivate, context: ExecutionContext): Promise<boolean> {
  const outcome: unknown = await guard.canActivate(context);
  return Boolean(isObservable(outcome) ? await lastValueFrom(outcome, { defaultValue: false }) : outcome);
}
