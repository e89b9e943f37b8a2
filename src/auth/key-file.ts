/**
 * Key material read from files. Errors name the file and what to do about it, and never quote what is in it: a private
 * key given where a certificate was expected must not end in a log.
 */
import { readFile } from 'node:fs/promises'

/** A key or certificate file that is missing, unreadable or of no use. */
export class KeyFileError extends Error {
  override readonly name = 'KeyFileError'
}

/** The text of a file; `what` is its role in messages (`the private key`). Throws `KeyFileError`. */
export async function readKeyFile(file: string, what: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (cause) {
    throw new KeyFileError(
      `cannot read ${what} ${file}: check that it exists and that this process's user may read it`,
      { cause },
    )
  }
}
