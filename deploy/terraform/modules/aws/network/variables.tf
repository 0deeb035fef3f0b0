variable "name" {
  description = "Name of the cluster, the same in every region; part of every resource's name."
  type        = string
  default     = "meridian"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", var.name))
    error_message = "Use at most 20 lower-case letters, digits and '-', a letter first: load balancers take 32 in all."
  }
}

variable "region" {
  description = "The region as Meridian knows it: the --region of nodes, and regions[].name of the document."
  type        = string

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", var.region))
    error_message = "Use at most 20 lower-case letters, digits and '-', a letter first."
  }
}

variable "cidr" {
  description = "Addresses of this region, a /16 to /20 that no other region of the cluster has."
  type        = string

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 20, false)
    error_message = "Write a network such as 10.1.0.0/16, from /16 to /20."
  }
}

variable "cluster_cidrs" {
  description = "Addresses of all regions of the cluster, this one too: who may speak to etcd, to peers and to the authority."
  type        = list(string)

  validation {
    condition     = length(var.cluster_cidrs) > 0 && alltrue([for cidr in var.cluster_cidrs : can(cidrhost(cidr, 0))])
    error_message = "Name at least this region's network."
  }
}

variable "zones" {
  description = "Availability zones, one to three; machines are spread over them."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 1 && length(var.zones) <= 3
    error_message = "Name one to three availability zones."
  }
}

variable "operator_cidrs" {
  description = "From where operators reach SSH and the admin API; none by default."
  type        = list(string)
  default     = []

  validation {
    condition     = !contains(var.operator_cidrs, "0.0.0.0/0")
    error_message = "Not the whole world: name your own networks."
  }
}

variable "listeners" {
  description = "Ports that the document's listeners have, open to the world."
  type        = list(object({ port = number, protocol = string }))
  default     = [{ port = 80, protocol = "tcp" }, { port = 443, protocol = "tcp" }, { port = 443, protocol = "udp" }]

  validation {
    condition     = alltrue([for one in var.listeners : one.port >= 1 && one.port <= 65535 && contains(["tcp", "udp"], one.protocol)])
    error_message = "A port is 1 to 65535, a protocol tcp or udp."
  }
}

variable "peerings" {
  description = "Routes to the other regions: their network, and the id of the peering connection."
  type        = map(string)
  default     = {}
}

variable "tags" {
  description = "Further tags of every resource."
  type        = map(string)
  default     = {}
}

