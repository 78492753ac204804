import {
  HttpException,
  Injectable,
  UnauthorizedException,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { ADMIN_COOKIE, AdminAccess } from './admin.access.js';

/** What is used of the request: the library gives the address behind trusted proxies, and the cookies. */
interface AdminRequest {
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly cookies: Readonly<Record<string, string>>;
  readonly ip: string;
}

/** Lets in who brings the token, as `Authorization: Bearer …`, or has signed in; sends a browser to the form. */
@Injectable()
export class AdminGuard implements CanActivate {
  constructor(private readonly access: AdminAccess) {}

  canActivate(context: ExecutionContext): boolean {
    const http = context.switchToHttp();
    const { headers, cookies, ip } = http.getRequest<AdminRequest>();
    const [, bearer] = /^Bearer (.+)$/i.exec(headers.authorization ?? '') ?? [];
    if (bearer !== undefined && this.access.accepts(bearer, ip)) return true;
    if (this.access.knows(cookies[ADMIN_COOKIE])) return true;
    if (bearer === undefined && headers.accept?.includes('text/html')) {
      http.getResponse<{ setHeader(name: string, value: string): void }>().setHeader('Location', '/admin/sign-in');
      throw new HttpException('Sign in first', 303);
    }
    throw new UnauthorizedException();
  }
}
