/**
 * A link: a file that holds `alg:hex` and nothing else (a newline makes Distribution answer 500). Whatever else is found
 * in one is no link (DESIGN "Where the bytes lie"), and never part of a path.
 */
import { open } from 'node:fs/promises'
import { type Digest, parseDigest } from '../oci/digest.ts'
import { isAbsent, isErrorCode } from './durable-files.ts'

/** Longer than any digest, shorter than anything that could hurt. */
const SMALL_FILE_BYTES = 256

/** The digest a link names; undefined when it is absent, empty or malformed. */
export async function readLink(path: string): Promise<Digest | undefined> {
  const text = await readSmallFile(path)
  return text === undefined ? undefined : parseDigest(text)
}

/** A file of less than 256 bytes as text; undefined when it is absent, no file, or longer. */
export async function readSmallFile(path: string): Promise<string | undefined> {
  try {
    const file = await open(path, 'r')
    try {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(SMALL_FILE_BYTES), 0, SMALL_FILE_BYTES, 0)
      return bytesRead < SMALL_FILE_BYTES ? buffer.toString('latin1', 0, bytesRead) : undefined
    } finally {
      await file.close()
    }
  } catch (error) {
    if (isAbsent(error) || isErrorCode(error, 'EISDIR')) return undefined
    throw error
  }
}
