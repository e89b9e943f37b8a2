/**
 * Files that are whole or absent after a crash at any instant: written aside, synced, renamed, and the folder synced
 * (law 1). Never writes in place.
 */
import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, rename, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { LRUCache } from 'lru-cache'

export interface DurableFiles {
  /** Creates a folder and what is missing above it; its name survives a crash when it resolves. */
  ensureFolder(folder: string): Promise<void>
  /** Moves a file whose data is already synced; durable when it resolves. Replaces what was there. */
  place(from: string, to: string): Promise<void>
  /** Makes a file that others wrote, and its name, survive a crash. */
  sync(path: string): Promise<void>
  /** Writes a file; durable when it resolves. */
  write(path: string, bytes: Uint8Array | string): Promise<void>
  /** Writes a file that is whole or absent to readers, but may be lost or empty after a power cut. */
  writeUnsynced(path: string, bytes: string): Promise<void>
  /** To be called after a folder was moved or removed. */
  forgetFolders(): void
}

/** Folders below `root` whose names are known to be on disk; a smaller number only costs repeated syncs. */
const KNOWN_FOLDERS = 4096

/** `incoming` lies on the same filesystem as every target; `root` exists. */
export function createDurableFiles(root: string, incoming: string): DurableFiles {
  // What an earlier process created may have been left unsynced by its crash, so mere existence proves nothing.
  const known = new LRUCache<string, true>({ max: KNOWN_FOLDERS })

  async function ensureFolder(folder: string): Promise<void> {
    if (folder === root || known.has(folder)) return
    const parent = dirname(folder)
    await ensureFolder(parent)
    await mkdir(folder).catch(ignoring('EEXIST'))
    await syncFolder(parent)
    known.set(folder, true)
  }

  async function inFolder<T>(folder: string, work: () => Promise<T>): Promise<T> {
    try {
      await ensureFolder(folder)
      return await work()
    } catch (error) {
      if (!isErrorCode(error, 'ENOENT')) throw error
      // A folder that was known has been moved away or collected meanwhile: once more, from the ground.
      known.clear()
      await ensureFolder(folder)
      return await work()
    }
  }

  async function place(from: string, to: string): Promise<void> {
    const folder = dirname(to)
    await inFolder(folder, () => rename(from, to))
    await syncFolder(folder)
  }

  async function writeAside<T>(
    bytes: Uint8Array | string,
    sync: boolean,
    use: (temporary: string) => Promise<T>,
  ): Promise<T> {
    const temporary = join(incoming, randomUUID())
    try {
      const file = await open(temporary, 'wx')
      try {
        await file.writeFile(bytes)
        if (sync) await file.datasync()
      } finally {
        await file.close()
      }
      return await use(temporary)
    } catch (error) {
      // The first failure is the one to report; what stays behind is collected after a day.
      await unlink(temporary).catch(() => undefined)
      throw error
    }
  }

  return {
    ensureFolder: (folder) => inFolder(folder, async () => undefined),
    place,
    sync: async (path) => {
      await ensureFolder(dirname(path))
      await syncFile(path)
      await syncFolder(dirname(path))
    },
    write: (path, bytes) => writeAside(bytes, true, (temporary) => place(temporary, path)),
    writeUnsynced: (path, bytes) =>
      writeAside(bytes, false, async (temporary) => {
        await mkdir(dirname(path), { recursive: true })
        await rename(temporary, path)
      }),
    forgetFolders: () => known.clear(),
  }
}

/** Flushes a file's bytes to disk. */
export async function syncFile(path: string): Promise<void> {
  await withFile(path, (file) => file.datasync())
}

/** Flushes the names in a folder to disk. */
export async function syncFolder(path: string): Promise<void> {
  await withFile(path, (file) => file.sync())
}

async function withFile(path: string, use: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, 'r')
  try {
    await use(file)
  } finally {
    await file.close()
  }
}

export function isErrorCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}

/** Whether a path leads nowhere, also where a file stands in place of one of its folders. */
export function isAbsent(error: unknown): boolean {
  return isErrorCode(error, 'ENOENT', 'ENOTDIR')
}

/** A rejection handler that lets the named errors pass as `undefined`. */
export function ignoring(...codes: string[]): (error: unknown) => undefined {
  return (error) => {
    if (!isErrorCode(error, ...codes)) throw error
  }
}
