/** Temporary folders that are gone when their owner is. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

export interface TempFolder extends AsyncDisposable {
  readonly path: string
  /** Writes a file (folders on the way are made) and returns its absolute path. Mode default 0644. */
  write(name: string, content: string | Uint8Array, mode?: number): Promise<string>
}

/** A new folder under the system's temporary folder; removed with all that is in it on dispose. */
export async function tempFolder(prefix: string = 'geo-registry'): Promise<TempFolder> {
  const path = await mkdtemp(join(tmpdir(), `${prefix}-`))
  return {
    path,
    async write(name, content, mode = 0o644) {
      const file = join(path, name)
      await mkdir(dirname(file), { recursive: true })
      await writeFile(file, content, { mode })
      return file
    },
    async [Symbol.asyncDispose]() {
      await rm(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
    },
  }
}
