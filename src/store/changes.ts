/** Changes of one repository take effect one at a time, after all that were asked for before. */
import type { RepositoryName } from '../oci/reference.ts'
import type { Guard } from './failures.ts'
import type { KeyedMutex } from './keyed-mutex.ts'

/**
 * One that fails may have changed the disk all the same: `forget` then makes the next reader look. Rejects with
 * `StoreError`.
 */
export type Change = <T>(
  name: RepositoryName,
  doing: string,
  forget: () => void,
  work: () => Promise<T>,
) => Promise<T>

export function createChange(turns: Pick<KeyedMutex, 'run'>, guard: Guard): Change {
  return (name, doing, forget, work) => {
    const forgetful = async () => {
      try {
        return await work()
      } catch (error) {
        forget()
        throw error
      }
    }
    return guard(`${doing} in ${name}`, () => turns.run(name, forgetful))
  }
}
