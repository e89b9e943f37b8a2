/** The files of blobs, one at a time: looked at, opened, made young, removed. */
import { randomUUID } from 'node:crypto'
import { link, open, rename, rmdir, stat, unlink, utimes } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { OpenFile } from './descriptor-cache.ts'
import { ignoring, isErrorCode } from './durable-files.ts'

export async function openFileOf(path: string): Promise<OpenFile | undefined> {
  const file = await open(path, 'r').catch(ignoring('ENOENT', 'ENOTDIR'))
  if (!file) return undefined
  try {
    const stats = await file.stat()
    if (stats.isFile()) return { file, sizeBytes: stats.size, inode: stats.ino }
  } catch (error) {
    await file.close()
    throw error
  }
  await file.close()
  return undefined
}

/** In bytes; undefined when there is no such file. */
export async function sizeOf(path: string): Promise<number | undefined> {
  const stats = await stat(path).catch(ignoring('ENOENT', 'ENOTDIR'))
  return stats?.isFile() ? stats.size : undefined
}

/** Whether it is this file that lies there now. */
export async function liesAt(path: string, { inode }: Pick<OpenFile, 'inode'>): Promise<boolean> {
  return (await stat(path).catch(ignoring('ENOENT', 'ENOTDIR')))?.ino === inode
}

/** Makes a file as young as can be; false when there is none. A file that is another user's stays as old as it is. */
export async function touch(path: string): Promise<boolean> {
  const now = new Date()
  try {
    await utimes(path, now, now)
    return true
  } catch (error) {
    if (isErrorCode(error, 'ENOENT', 'ENOTDIR')) return false
    // Then a garbage collection elsewhere may just take it as it is linked: it is fetched again.
    if (isErrorCode(error, 'EPERM', 'EACCES')) return (await sizeOf(path)) !== undefined
    throw error
  }
}

/** False when it was gone already. */
export async function removeFile(path: string): Promise<boolean> {
  const removed = await unlink(path).then(() => true, ignoring('ENOENT'))
  await removeFolderOf(path)
  return removed ?? false
}

/**
 * Removes a file unless it was made young (modified at or after `youngMs`, wall clock). Who makes it young finds it, and
 * it stays, or does not find it. A crash in between removes it: what names it then is fetched again.
 */
export async function removeUnlessYoung(
  path: string,
  asideFolder: string,
  youngMs: number,
): Promise<boolean> {
  const aside = join(asideFolder, randomUUID())
  const moved = await rename(path, aside).then(() => true, ignoring('ENOENT'))
  if (!moved) return false
  // Gone: another collection took it for what a crash had left, as only what is old is.
  const isYoung = ((await stat(aside).catch(ignoring('ENOENT')))?.mtimeMs ?? 0) >= youngMs
  if (isYoung) await putBack(aside, path)
  await unlink(aside).catch(ignoring('ENOENT'))
  if (!isYoung) await removeFolderOf(path)
  return !isYoung
}

/** What a crash left beside it keeps the folder, which then is only clutter. */
async function removeFolderOf(path: string): Promise<void> {
  await rmdir(dirname(path)).catch(ignoring('ENOENT', 'ENOTEMPTY', 'EEXIST'))
}

/** Somebody may have put the same content there meanwhile: that stays. */
async function putBack(aside: string, path: string): Promise<void> {
  try {
    await link(aside, path)
  } catch (error) {
    // A filesystem without hard links.
    if (!isErrorCode(error, 'EEXIST')) await rename(aside, path)
  }
}
