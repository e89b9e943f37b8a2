/** Turns what the filesystem throws into `StoreError`, counted once where it leaves the store. */
import type { Metrics } from '../metrics.ts'
import { StoreError } from './blob-store.ts'
import { isErrorCode } from './durable-files.ts'

/** Runs work of the store; whatever it throws becomes a `StoreError` that says what was being done. */
export type Guard = <T>(doing: string, work: () => Promise<T>) => Promise<T>

export function createGuard(metrics: Metrics): Guard {
  return async (doing, work) => {
    try {
      return await work()
    } catch (error) {
      const failure = toStoreError(doing, error)
      metrics.storeErrors.inc({ kind: failure.kind })
      throw failure
    }
  }
}

function toStoreError(doing: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error
  const kind = isErrorCode(error, 'ENOSPC', 'EDQUOT') ? 'full' : 'io'
  const message = error instanceof Error ? error.message : String(error)
  return new StoreError(kind, `${doing}: ${message}`, { cause: error })
}
