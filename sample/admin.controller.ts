import { Body, Controller, Get, Header, HttpException, Post, Req, Res } from '@nestjs/common';
import { ADMIN_COOKIE, AdminAccess, SESSION_MS } from './admin.access.js';

/** What is used of Express's request and response. */
interface Request {
  readonly ip?: string;
  readonly secure: boolean;
}
interface Response {
  cookie(name: string, value: string, options: object): unknown;
  status(code: number): this;
  redirect(code: number, url: string): void;
  send(body: string): void;
}

/** The form in front of the admin page. It is the application's: the library only asks the guard. */
@Controller('admin/sign-in')
export class AdminController {
  constructor(private readonly access: AdminAccess) {}

  @Get()
  @Header('Cache-Control', 'no-store')
  @Header('Content-Security-Policy', "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'")
  form(@Res() response: Response): void {
    response.send(page(''));
  }

  @Post()
  @Header('Cache-Control', 'no-store')
  @Header('Content-Security-Policy', "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'")
  signIn(
    @Body() body: { readonly token?: unknown } | undefined,
    @Req() request: Request,
    @Res() response: Response,
  ): void {
    const token = typeof body?.token === 'string' ? body.token : '';
    try {
      if (!this.access.accepts(token, request.ip ?? '')) throw new HttpException('This is not the token', 401);
    } catch (error) {
      if (!(error instanceof HttpException)) throw error;
      response.status(error.getStatus()).send(page(error.message));
      return;
    }
    const { secure } = request;
    const options = { httpOnly: true, sameSite: 'strict', secure, maxAge: SESSION_MS };
    response.cookie(ADMIN_COOKIE, this.access.openSession(), options);
    response.redirect(303, '/realtime/admin');
  }
}

/** `problem` is one of the texts above: nothing of a peer's gets into the page. */
function page(problem: string): string {
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>Sign in · Realtime admin</title>
    <link rel="stylesheet" href="/sign-in.css" />
  </head>
  <body>
    <main>
      <h1>Realtime <span>admin</span></h1>
      <form method="post" action="/admin/sign-in">
        <label for="token">Token</label>
        <input id="token" name="token" type="password" autocomplete="current-password" required autofocus />
        <p role="alert">${problem}</p>
        <button>Sign in</button>
      </form>
    </main>
  </body>
</html>
`;
}
