import { describe } from 'vitest'
import { createLocalCoordination } from '../../src/store/coordination.ts'
import { createKeyedMutex } from '../../src/store/keyed-mutex.ts'
import { keyedMutexContract } from '../contracts/keyed-mutex.contract.ts'
import { tombstonesContract } from '../contracts/tombstones.contract.ts'

const nothing = { [Symbol.asyncDispose]: async () => {} }

describe('within one process', () => {
  keyedMutexContract(async () => {
    const one = createKeyedMutex()
    return { one, other: one, ...nothing }
  })

  tombstonesContract(async () => {
    const one = createLocalCoordination()
    return { one, other: one, maxKept: 100_000, ...nothing }
  })
})
