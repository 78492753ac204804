import { Body, Controller, Get, HttpCode, NotFoundException, Post, Res, ValidationPipe } from '@nestjs/common';
import { IsNotEmpty, IsString, MaxLength } from 'class-validator';
import { SignJWT } from 'jose';
import { TOKEN_COOKIE } from './auth.js';
import { jwtSecret, tokenLifetimeS } from './environment.js';

/** What is used of Express's response. */
interface CookieResponse {
  cookie(name: string, value: string, options: { httpOnly: true; sameSite: 'strict'; maxAge: number }): unknown;
}

class SignIn {
  @IsString() @IsNotEmpty() @MaxLength(32) name!: string;
}

/** The demo's sign-in asks for a name and no password. An application has its own, and its own users. */
@Controller('session')
export class SessionController {
  @Get()
  find(): { required: boolean } {
    return { required: jwtSecret !== undefined };
  }

  @Post()
  @HttpCode(200)
  async create(
    @Body(new ValidationPipe()) { name }: SignIn,
    @Res({ passthrough: true }) response: CookieResponse,
  ): Promise<{ token: string; expiresAt: number }> {
    if (jwtSecret === undefined) throw new NotFoundException('No tokens are needed here');
    const expiresAt = Math.floor(Date.now() / 1000) + tokenLifetimeS;
    const token = await new SignJWT()
      .setProtectedHeader({ alg: 'HS256' })
      .setSubject(name)
      .setIssuedAt()
      .setExpirationTime(expiresAt)
      .sign(new TextEncoder().encode(jwtSecret));
    response.cookie(TOKEN_COOKIE, token, { httpOnly: true, sameSite: 'strict', maxAge: tokenLifetimeS * 1000 });
    return { token, expiresAt: expiresAt * 1000 };
  }
}
