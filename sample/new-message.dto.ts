import { Transform } from 'class-transformer';
import { IsNotEmpty, IsOptional, IsString, MaxLength } from 'class-validator';

/** What a peer publishes; anything else is refused with the code `invalid`. */
export class NewMessage {
  @IsString()
  @IsNotEmpty()
  @MaxLength(2_000)
  @Transform(({ value }: { value: unknown }) => (typeof value === 'string' ? value.trim() : value))
  text!: string;

  @IsOptional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(32)
  name?: string;
}
