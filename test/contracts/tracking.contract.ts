/** What every tracking database owes its callers. */
import { describe } from 'vitest'
import { countsContract } from '../tracking/counts-contract.ts'
import { inboxContract } from '../tracking/inbox-contract.ts'
import { jobsContract } from '../tracking/jobs-contract.ts'
import { leaseContract } from '../tracking/lease-contract.ts'
import { rowsContract } from '../tracking/rows-contract.ts'
import type { MakeTracking } from '../tracking/tracking-fixture.ts'

export function trackingContract(make: MakeTracking): void {
  describe('the inbox', () => inboxContract(make))
  describe('a lease', () => leaseContract(make))
  describe('a job', () => jobsContract(make))
  describe('the rows', () => rowsContract(make))
  describe('the counts', () => countsContract(make))
}
